package provider

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tercelhq/tercel/pkg/config"
)

// Resources are a source's kinds of records by name.
type Resources map[string]Resource

// Forms lists what DecodeNode takes, for the schema of files.
func (Resources) Forms() []any { return []any{[]string{}, Resources{}} }

// DecodeNode reads a list of names of the preset's resources, or a mapping
// whose entries are laid over them.
func (r *Resources) DecodeNode(n config.Node) {
	known, chosen := *r, Resources{}
	if n.Kind() == config.Sequence {
		var names []string
		n.Decode(&names)
		for _, name := range names {
			res, ok := known[name]
			res.unknown = !ok
			chosen[name] = res
		}
		*r = chosen
		return
	}
	for _, name := range n.Keys() {
		child, _ := n.Child(name)
		res := known[name]
		child.Decode(&res)
		chosen[name] = res
	}
	if n.Kind() == config.Scalar {
		n.Fault("a list of the preset's resources, or a mapping")
	}
	*r = chosen
}

func (s *Source) validateResources(c *config.Check) {
	known := []string{}
	if p := presets[s.Preset]; p != nil {
		for name := range p.Resources {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	for name, r := range s.Resources {
		switch {
		case r.unknown && len(known) > 0:
			c.OneOf("resources", name, known)
		case r.unknown:
			c.Fault("resources", fmt.Sprintf("%q", name), "resources written out as a mapping: the preset has none")
		case !Name.MatchString(name):
			c.Fault("resources."+name, "", "a name of lower-case letters, digits, - and _")
		}
	}
	if len(s.Resources) > 0 && s.API.Base == "" {
		c.Missing("api.base", "the URL of the API that has the records")
	}
}

// ResourceFor returns the resource that an event type speaks of, by name, and
// whether there is one. Where several match, the first by name counts.
func (s *Source) ResourceFor(typ string) (string, Resource, bool) {
	for _, name := range slices.Sorted(maps.Keys(s.Resources)) {
		if r := s.Resources[name]; r.Matches(typ) {
			return name, r, true
		}
	}
	return "", Resource{}, false
}
