package cursor

import (
	"strings"

	"github.com/tercelhq/tercel/pkg/event"
)

// Scope names resources: one of one account, all of an account, one in all
// accounts, or all of a source.
type Scope struct {
	Source string `json:"source"`
	// Account is one of the source's, or "" for all of them.
	Account string `json:"account,omitzero"`
	// Resource is one of the source's, or "" for all of them.
	Resource string `json:"resource,omitzero"`
}

// Has reports whether k is one of those that s names, whatever is done with it.
func (s Scope) Has(k Key) bool {
	return s.Source == k.Source && (s.Account == "" || s.Account == k.Account) && (s.Resource == "" || s.Resource == k.Resource)
}

// Holds reports whether s names all that o does.
func (s Scope) Holds(o Scope) bool {
	return s.Has(Key{Source: o.Source, Account: o.Account, Resource: o.Resource})
}

// Meets reports whether there can be a resource that both name.
func (s Scope) Meets(o Scope) bool {
	either := func(a, b string) bool { return a == "" || b == "" || a == b }
	return s.Source == o.Source && either(s.Account, o.Account) && either(s.Resource, o.Resource)
}

// String names what s names, for people.
func (s Scope) String() string {
	text := s.Source
	if s.Resource != "" {
		text += " " + s.Resource
	}
	if s.Account != "" {
		text += " of account " + s.Account
	}
	return text
}

// all stands in a bucket's key for all accounts, or all resources: no escape
// ends in it.
const all = "="

// key is s as a bucket's key, below a first token.
func (s Scope) key(first string) string {
	token := func(name string) string {
		if name == "" {
			return all
		}
		return strings.ReplaceAll(event.Escape(name), "%", "=")
	}
	return first + "." + token(s.Source) + "." + token(s.Account) + "." + token(s.Resource)
}

// parseScope undoes [Scope.key].
func parseScope(first, key string) (Scope, bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 4 || parts[0] != first {
		return Scope{}, false
	}
	var names [3]string
	for i, token := range parts[1:] {
		if token == all {
			continue
		}
		name, err := event.Unescape(strings.ReplaceAll(token, "=", "%"))
		if err != nil {
			return Scope{}, false
		}
		names[i] = name
	}
	s := Scope{Source: names[0], Account: names[1], Resource: names[2]}
	return s, s.Source != "" && s.key(first) == key
}
