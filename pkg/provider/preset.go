package provider

import (
	"embed"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/signature"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Preset is what Tercel knows of one provider: a file of presets/.
type Preset struct {
	// Title is the provider's name for people. Required.
	Title string `yaml:"title"`
	// Docs is the address of the provider's own description of its webhooks.
	Docs string `yaml:"docs"`
	// Secret says in a few words where a user finds the signing secret.
	Secret string `yaml:"secret"`
	// Verify, Event and Request are the defaults of the source's keys.
	Verify  signature.Scheme `yaml:"verify"`
	Event   Identity         `yaml:"event"`
	Request Request          `yaml:"request"`
	// Reply is the default of the source's reply.
	Reply Reply `yaml:"reply"`
	// Handshakes are the defaults of the source's.
	Handshakes Handshakes `yaml:"handshakes"`
	// SenderKeys is the default of the source's sender_keys.
	SenderKeys SenderKeys `yaml:"sender_keys"`
	// Delivery is how the provider delivers, for people.
	Delivery Delivery `yaml:"delivery"`
	// API has the parts that are the same for every user.
	API PresetAPI `yaml:"api"`
	// Resources are ready kinds of records that a source may name.
	Resources map[string]Resource `yaml:"resources"`
	// Events is the default of the source's list of events. Where the path of the
	// list is each user's own, it has none.
	Events *Events `yaml:"events"`
}

// PresetAPI is the part of [API] that a preset may set.
type PresetAPI struct {
	// Base is the API's public address.
	Base string `yaml:"base"`
	// TokenHeader is the header that takes a user's token, for tercel init to
	// write down. Defaults to a bearer token.
	TokenHeader string `yaml:"token_header"`
	// Limits is the default of the source's limits.
	Limits []Limit `yaml:"limits"`
	// Failures is the default of the source's failures.
	Failures Failures `yaml:"failures"`
}

// SignsURL reports whether the provider signs the address that it calls, so that
// a source needs [Source.PublicURL].
func (p *Preset) SignsURL() bool {
	v, err := signature.Compile(p.Verify)
	return err == nil && v.NeedsURL()
}

// TakesSecrets reports whether a source needs secrets, rather than credentials for
// the API that has the sender's keys.
func (p *Preset) TakesSecrets() bool {
	v, err := signature.Compile(p.Verify)
	return err == nil && v.NeedsKey()
}

func (p *Preset) fill(s *Source) {
	s.Verify, s.Event, s.Reply, s.Handshakes = p.Verify, p.Event, p.Reply, p.Handshakes
	s.SenderKeys = p.SenderKeys
	if len(p.Request.ContentTypes) > 0 {
		s.Request.ContentTypes = p.Request.ContentTypes
	}
	if p.Request.MaxBody > 0 {
		s.Request.MaxBody = p.Request.MaxBody
	}
	s.Request.Encodings, s.Request.Signed = p.Request.Encodings, p.Request.Signed
	s.API.Base, s.API.Limits, s.API.Failures = p.API.Base, p.API.Limits, p.API.Failures
	s.Resources = Resources{}
	for name, r := range p.Resources {
		if r.Reconcile != nil { // what a source's validation works out must not reach the preset
			own := *r.Reconcile
			r.Reconcile = &own
		}
		s.Resources[name] = r
	}
	if p.Events != nil { // for the same reason
		own := *p.Events
		s.Events = &own
	}
}

// presets are read once; they are part of the program, and a test reads each.
var presets = mustLoadPresets()

func mustLoadPresets() map[string]*Preset {
	all := map[string]*Preset{}
	files, err := presetFiles.ReadDir("presets")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		data, err := presetFiles.ReadFile(path.Join("presets", f.Name()))
		if err != nil {
			panic(err)
		}
		p := &Preset{}
		if err := config.Decode("presets/"+f.Name(), data, p); err != nil {
			panic(err) // a preset of this program is wrong
		}
		all[strings.TrimSuffix(f.Name(), ".yaml")] = p
	}
	return all
}

// PresetNames lists the presets in alphabetical order.
func PresetNames() []string { return slices.Sorted(maps.Keys(presets)) }

// LookupPreset returns a preset by name. It must not be changed.
func LookupPreset(name string) (*Preset, bool) {
	p, ok := presets[name]
	return p, ok
}
