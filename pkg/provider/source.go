// Package provider is what Tercel knows of the systems that send webhooks:
// presets, which are data, and the sources and resources that a pipeline file
// makes of them.
//
// A preset fills a [Source]; what the pipeline file says overrides it key by
// key. Presets live in presets/*.yaml and pass one conformance suite.
package provider

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/mapping"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/signature"
)

// Source is one system that sends webhooks: an entry of sources in the
// pipeline file.
type Source struct {
	// Preset is the provider whose settings apply where the file has none.
	Preset string `yaml:"preset"`
	// Secrets verify its webhooks: references such as env:NAME or file:/path,
	// several while rotating. Of a sender that signs for everyone with one key
	// they are what it knows this receiver by. Required, except with scheme none
	// and for tokens under a key that is fetched.
	Secrets []config.Secret `yaml:"secrets"`
	// Verify says how it signs. From the preset, or required.
	Verify signature.Scheme `yaml:"verify"`
	// SenderKeys says where the keys are had that sender_key of Verify names. From
	// the preset, or required then.
	SenderKeys SenderKeys `yaml:"sender_keys"`
	// PublicURL is the address that the source was told to call, such as
	// https://hooks.example.com/v1/orders, without a query; with accounts, each
	// one's name follows. Required where the source signs it, since what a
	// request says of its host is the sender's word.
	PublicURL string `yaml:"public_url"`
	// Event says where a request has its identity. From the preset, or required.
	Event Identity `yaml:"event"`
	// Origin says which addresses it sends from. Defaults to any.
	Origin Origin `yaml:"origin"`
	// Request bounds what is taken in.
	Request Request `yaml:"request"`
	// Reply is what the source wants to be answered. From the preset, or as
	// documented there.
	Reply Reply `yaml:"reply"`
	// Handshakes are the requests with which it proves or tests the address. From
	// the preset; defaults to none.
	Handshakes Handshakes `yaml:"handshakes"`
	// Accounts are the provider's tenants: names such as [north, south], or
	// {file: PATH}, {dir: PATH} or {bucket: NAME} with an entry for each. A
	// request names one in its path, POST /v1/SOURCE/ACCOUNT, or in its body, see
	// [Identity].Account; every request must. Defaults to none.
	Accounts Accounts `yaml:"accounts"`
	// Dedup says for how long repeats are absorbed.
	Dedup Dedup `yaml:"dedup"`
	// Limit bounds the requests taken from this source.
	Limit Rate `yaml:"limit"`
	// AccountLimit bounds the requests taken from each account, within Limit.
	AccountLimit Rate `yaml:"account_limit"`
	// Drop is a jq expression that says true of triggers that nobody wants, such
	// as '.event.type == "ping"' or '.trigger.livemode == false'; see package
	// mapping for what it sees. It is asked before anything is fetched. Of a record
	// that reconciliation lists it sees .record and no .trigger. A dropped trigger
	// is noted as such and goes no further. Defaults to none.
	Drop mapping.Expr `yaml:"drop"`
	// Redact lists what is not shown of its payloads, in no command, page, answer
	// or dead letter: paths such as [body.card.number, record.email]. The stored
	// bytes are left as they are, unless it says {paths: [...], stored: true}.
	// Defaults to none.
	Redact redact.Rules `yaml:"redact"`
	// Refused is what is kept of the bodies of its refused requests, a few a
	// minute, for the debugging of signatures: shape, body or nothing. Defaults to
	// shape, the names and types of fields.
	Refused Refused `yaml:"refused"`
	// API is how to call the source.
	API API `yaml:"api"`
	// Resources are its kinds of records: names of the preset's, or mappings.
	Resources Resources `yaml:"resources"`
	// Events says how to list what the source says that it has sent, to find
	// webhooks that were missed; {} takes the preset's. Defaults to not listing
	// them.
	Events *Events `yaml:"events"`

	verifier *signature.Verifier
	keys     []signature.Key
}

// Request bounds what is taken in.
type Request struct {
	// ContentTypes are the media types taken; "+json" stands for every type
	// with that suffix. Defaults to [application/json, +json].
	ContentTypes []string `yaml:"content_types"`
	// MaxBody is the largest body. Defaults to 512KiB; with its headers it must
	// fit the server's max_payload (1MiB by default).
	MaxBody config.Bytes `yaml:"max_body"`
	// Encodings are the content encodings taken, [gzip] or none. MaxBody bounds
	// what comes of a body too, and so does a hundred times its size. Triggers
	// have the body in clear; the bytes as received are stored beside them.
	// Defaults to none.
	Encodings []Encoding `yaml:"encodings"`
	// Signed says which bytes of an encoded body the source signs: received,
	// those that come over the wire, or decoded, those that it had before.
	// Defaults to received, so that nothing is decoded that isn't genuine.
	Signed SignedBytes `yaml:"signed"`
	// Schemas are JSON Schemas of the events by pattern of their type, such as
	// {order.*: schemas/order.json}. Fields that a schema doesn't speak of are
	// no fault unless it says so. Defaults to none.
	Schemas Schemas `yaml:"schemas"`
	// SchemaMode is what becomes of an event that doesn't match: warn stores it
	// and tells, enforce refuses its request with 422 or reply.refused. Defaults
	// to warn.
	SchemaMode SchemaMode `yaml:"schema_mode"`
}

// Rate is a number of requests per time; the zero Rate is no limit.
type Rate struct {
	// Requests is how many. Required.
	Requests int `yaml:"requests"`
	// Per is in what time. Defaults to 1s.
	Per time.Duration `yaml:"per"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Rate) Forms() []any { return []any{Rate{}} }

// DecodeNode sets the default, then reads the mapping over it.
func (r *Rate) DecodeNode(n config.Node) {
	r.Per = time.Second
	n.Decode(r)
	if r.Requests < 1 || r.Per <= 0 {
		n.Fault("{requests: at least 1, per: a duration}")
	}
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Source) Forms() []any { return []any{Source{}} }

// DecodeNode fills s from its preset, then reads the mapping over it.
func (s *Source) DecodeNode(n config.Node) {
	s.Request = Request{ContentTypes: []string{"application/json", "+json"}, MaxBody: 512 << 10}
	s.Dedup.Horizon = 72 * time.Hour
	s.API.Concurrency, s.API.Timeout, s.API.MaxBody, s.API.CacheSize = 8, 20*time.Second, 4<<20, 8<<20
	preset := ""
	if child, ok := n.Child("preset"); ok {
		preset = child.Text()
	}
	if p, ok := presets[preset]; ok {
		p.fill(s)
	}
	n.Decode(s)
	if _, ok := n.Child("resources"); !ok {
		s.Resources = nil
	}
	if _, ok := n.Child("events"); !ok {
		s.Events = nil
	}
}

// Validate reports every fault of the source and makes it ready for use.
func (s *Source) Validate(c *config.Check) {
	if s.Preset != "" && presets[s.Preset] == nil {
		c.OneOf("preset", s.Preset, PresetNames())
	}
	if s.Preset == "" || presets[s.Preset] != nil {
		s.compile(c)
	}
	if len(s.Event.Account) > 0 && s.Accounts.IsZero() {
		c.Fault("event.account", "", "accounts beside it: which ones there are")
	}
	if s.Request.MaxBody < 1 || s.Request.MaxBody > 64<<20 {
		c.Fault("request.max_body", "", "1B to 64MiB")
	}
	s.validateEncodings(c)
	s.validateURL(c)
	s.validateSenderKeys(c)
	s.Reply.validate(c)
	s.validateHandshakes(c)
	if h := s.Dedup.Horizon; h < 0 || h > 720*time.Hour {
		c.Fault("dedup.horizon", "", "0s to 720h")
	}
	s.validateAPI(c)
	s.validateResources(c)
	s.validateRedaction(c)
	s.validateEvents(c)
}

// validateRedaction keeps what names a record in what is stored: the enricher
// looks for it there.
func (s *Source) validateRedaction(c *config.Check) {
	for name, r := range s.Resources {
		for _, e := range r.ID {
			for at := range e.Paths("body") {
				if s.Redact.Hides("body", at) {
					c.Fault("redact.paths", "", "with stored, no path that resource "+name+" has its id at, "+e.String())
				}
			}
		}
	}
}

func (s *Source) validateURL(c *config.Check) {
	if s.PublicURL == "" {
		if s.verifier != nil && s.verifier.NeedsURL() {
			c.Missing("public_url", "the address that the source was told to call, which it signs, such as https://hooks.example.com/v1/orders")
		}
		return
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.ContainsAny(s.PublicURL, "?#") {
		c.Fault("public_url", "", "a URL such as https://hooks.example.com/v1/orders, without credentials and query")
	}
}

func (s *Source) compile(c *config.Check) {
	var err error
	if s.verifier, err = signature.Compile(s.Verify); err != nil {
		var faults signature.Faults
		if !errors.As(err, &faults) {
			c.Fault("verify", "", err.Error())
		}
		if s.Verify == (signature.Scheme{}) {
			c.Missing("verify", "how the source signs, or a preset that knows it")
		} else {
			for _, f := range faults {
				c.Fault("verify."+f.Key, fmt.Sprintf("%q", f.Value), f.Want)
			}
		}
	}
	if len(s.Event.Type) == 0 {
		c.Missing("event.type", "where the event's type is, such as body.type")
	}
	if s.Event.Repeats == RepeatsNever && len(s.Event.ID) > 0 {
		c.Fault("event.id", "", "nothing here with repeats: never, which makes an id for each request")
	}
	s.validateSplit(c)
	s.parseKeys(c)
}

func (s *Source) parseKeys(c *config.Check) {
	s.keys = nil
	if s.Verify.Algorithm == signature.None || s.verifier != nil && !s.verifier.NeedsKey() {
		if len(s.Secrets) > 0 {
			c.Fault("secrets", "", "nothing here with scheme none, or where sender_key names the key of a token: no secret is looked at")
		}
		return
	}
	if len(s.Secrets) == 0 && !s.Accounts.Live() { // whose entries can have them
		c.Missing("secrets", "the signing secret, such as [env:WEBHOOK_SECRET]")
	}
	for i, secret := range s.Secrets {
		if secret.IsZero() || s.verifier == nil {
			continue // already a fault
		}
		k, err := signature.ParseKey(s.Verify, secret.Reveal())
		if err != nil {
			c.Fault(fmt.Sprintf("secrets[%d]", i), "", "a secret that the scheme can use: "+err.Error())
			continue
		}
		s.keys = append(s.keys, k)
	}
}

// Name is what names of sources, destinations and resources look like: they
// are subject tokens, durable names and metric attributes.
var Name = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Verifier checks the source's signatures; Keys are its secrets' keys.
func (s *Source) Verifier() *signature.Verifier { return s.verifier }

// Keys returns the keys that a signature may be made with.
func (s *Source) Keys() []signature.Key { return s.keys }

// CalledURL returns the address that a request called which names that account,
// or [event.NoAccount], with its query as received. It is "" where the source
// has no public URL.
func (s *Source) CalledURL(account, query string) string {
	called := s.PublicURL
	if called == "" {
		return ""
	}
	if account != event.NoAccount {
		called = strings.TrimSuffix(called, "/") + "/" + account
	}
	if query != "" {
		called += "?" + query
	}
	return called
}

// NeedsJSON reports whether the source's triggers must be JSON: an expression
// looks into their body.
func (s *Source) NeedsJSON() bool {
	if !s.Event.Split.IsZero() || !s.Request.Schemas.IsZero() || s.Event.ID.Uses("body") || s.Event.Type.Uses("body") || s.Event.Time.Uses("body") || s.Event.Account.Uses("body") {
		return true
	}
	for _, r := range s.Resources {
		if r.ID.Uses("body") {
			return true
		}
	}
	return false
}

// Takes reports whether the source takes a media type.
func (s *Source) Takes(mediaType string) bool {
	for _, t := range s.Request.ContentTypes {
		if t == "*" || t == mediaType || strings.HasPrefix(t, "+") && strings.HasSuffix(mediaType, t) {
			return true
		}
	}
	return false
}

func isMissing(err error) bool { return errors.Is(err, field.ErrMissing) }
