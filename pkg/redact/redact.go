// Package redact leaves out of what is shown the values that a source's owner
// wants nobody to see: paths such as body.card.number or record.email, under
// redact in the pipeline file.
//
// [Rules.Show] is the one way from a stored payload to a person: commands, the
// API and pages, of events and of dead letters alike. It gives the payload with
// the values replaced, and replaces them in the texts that are shown beside it,
// such as what a destination answered. Logs have no payload at all.
//
// What it can't look into it leaves out whole: a payload that should have such a
// value and isn't JSON, or can't be told apart. The stored bytes are evidence
// (promise 8) and stay as they are, unless the rules are of what is stored too:
// then values are replaced before that, and the hash of what was there is kept.
package redact

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// Mark stands where a value was.
const Mark = "[redacted]"

// mark is Mark as a JSON value.
var mark = []byte(`"` + Mark + `"`)

// roots are what a path can begin with.
var roots = []string{"body", "record", "related", "header"}

// Rules are the values of one source that are not shown: paths in a list, or
// {paths: [...], stored: true}. The zero Rules show everything.
type Rules struct {
	// Paths say where the values are: body.PATH in a trigger, record.PATH and
	// related.NAME.PATH in an enriched event, header.NAME in a refused request. A
	// name stands for that member of each element where there is an array.
	Paths []string `yaml:"paths"`
	// Stored has the values replaced before anything is stored too, once the
	// signature was checked: what was there is then gone for ever, for
	// destinations as well. What finds ids and types must not be among Paths.
	// Defaults to false.
	Stored bool `yaml:"stored"`

	paths   []path
	unknown bool // nothing is shown
}

type path struct {
	root string
	rest field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Rules) Forms() []any { return []any{[]string{}, Rules{}} }

// DecodeNode reads a list of paths, or the mapping.
func (r *Rules) DecodeNode(n config.Node) {
	if n.Kind() == config.Sequence {
		n.Decode(&r.Paths)
		return
	}
	n.Decode(r)
}

// Validate reads the paths.
func (r *Rules) Validate(c *config.Check) {
	r.read(func(i int, err error) {
		key := fmt.Sprintf("paths[%d]", i)
		c.Fault(key, "", "a path such as body.card.number, record.email or related.customer.phone ("+err.Error()+")")
	})
	if r.Stored && len(r.Paths) == 0 {
		c.Missing("paths", "what is not to be stored, such as [body.card.number]")
	}
}

// Parse returns rules of paths, as they are written in the pipeline file.
func Parse(paths ...string) (Rules, error) {
	r := Rules{Paths: paths}
	var errs []error
	r.read(func(_ int, err error) { errs = append(errs, err) })
	return r, errors.Join(errs...)
}

// read reads the paths, and tells of each that is none.
func (r *Rules) read(fault func(i int, err error)) {
	r.paths = nil
	for i, text := range r.Paths {
		if p, err := parse(text); err != nil {
			fault(i, err)
		} else {
			r.paths = append(r.paths, p)
		}
	}
}

func parse(text string) (path, error) {
	root, rest, _ := strings.Cut(text, ".")
	if !slices.Contains(roots, root) {
		return path{}, fmt.Errorf("path %q: want one that begins with %s", text, strings.Join(roots, ", "))
	}
	if root == "header" {
		if rest == "" || strings.ContainsAny(rest, " :{}") {
			return path{}, fmt.Errorf("path %q: want header.NAME", text)
		}
		return path{root: root}, nil
	}
	p, err := field.ParsePath(rest)
	return path{root, p}, err
}

// IsZero reports whether everything is shown.
func (r Rules) IsZero() bool { return len(r.Paths) == 0 && !r.unknown }

// Headers returns the request headers that are not shown, in lower case.
func (r Rules) Headers() []string {
	var names []string
	for _, text := range r.Paths {
		if name, ok := strings.CutPrefix(text, "header."); ok {
			names = append(names, strings.ToLower(name))
		}
	}
	return names
}

// Shown is a payload as it may be shown, and what its redacted values were: texts
// that are shown beside it must not have them either.
type Shown struct {
	// Payload is the payload. It is nil where there was none, and [Mark] as a
	// JSON text where it had to be left out whole.
	Payload []byte

	values []string
	whole  bool // nobody knows what its values were
}

// Show returns a message's payload as it may be shown. Subject is that which it
// is or was stored under, of a dead letter that of the original.
func (r Rules) Show(subject string, e event.Event, payload []byte) Shown {
	if r.IsZero() || len(payload) == 0 {
		return Shown{Payload: payload, whole: r.unknown}
	}
	var s Shown
	var err error
	switch {
	case strings.HasPrefix(subject, event.PrefixEnriched+"."):
		s.Payload, err = r.enriched(&s, payload)
	case strings.HasPrefix(subject, event.PrefixRaw+".") && e.Resource != "":
		s.Payload, err = r.in(&s, "record", payload)
	case strings.HasPrefix(subject, event.PrefixRaw+"."):
		s.Payload, err = r.in(&s, "body", payload)
	default: // a whole request: where its events are isn't known here
		err = errors.New("not looked into")
	}
	switch {
	case err == nil && !r.unknown:
		return s
	case strings.HasPrefix(subject, event.PrefixEnriched+"."): // still one
		return Shown{Payload: []byte(`{"trigger":"` + Mark + `","record":"` + Mark + `"}`), whole: true}
	}
	return Shown{Payload: mark, whole: true}
}

// With returns s with what another payload's redacted values were.
func (s Shown) With(other Shown) Shown {
	s.values, s.whole = slices.Concat(s.values, other.values), s.whole || other.whole
	return s
}

// in replaces the values of one root in its document.
func (r Rules) in(s *Shown, root string, doc []byte) (out []byte, err error) {
	out = doc
	for _, p := range r.paths {
		if p.root != root {
			continue
		}
		if out, err = p.rest.Replace(out, s.replace); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// enriched replaces the values in an enriched event's body.
func (r Rules) enriched(s *Shown, doc []byte) ([]byte, error) {
	for root, member := range map[string]string{"body": "trigger", "record": "record", "related": "related"} {
		place, err := field.ParsePath(member)
		if err != nil {
			return nil, err
		}
		doc, err = place.Replace(doc, func(v jsontext.Value) []byte {
			if root == "body" && v[0] == '"' && r.has(root) {
				return s.replace(v) // the base64 of what isn't JSON
			}
			out, err := r.in(s, root, v)
			if err != nil {
				return mark
			}
			return out
		})
		if err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func (r Rules) has(root string) bool {
	return slices.ContainsFunc(r.paths, func(p path) bool { return p.root == root })
}

// shortest is the length from which a value is looked for in texts: a shorter
// one, such as true or a country's code, would be found in any.
const shortest = 4

// replace takes note of a value and returns the mark. What is absent stays so.
func (s *Shown) replace(v jsontext.Value) []byte {
	if string(v) == "null" {
		return v
	}
	leaves(v, func(leaf string) {
		if len(leaf) < shortest || leaf == Mark {
			return
		}
		s.values = append(s.values, leaf)
		// Whoever answers with what was sent mostly does so in JSON.
		if quoted, _ := jsontext.AppendQuote(nil, leaf); len(quoted) != len(leaf)+2 {
			s.values = append(s.values, string(quoted[1:len(quoted)-1]))
		}
	})
	return mark
}

// leaves calls each with the texts and numbers in a value.
func leaves(v jsontext.Value, each func(string)) {
	dec := jsontext.NewDecoder(strings.NewReader(string(v)), jsontext.AllowDuplicateNames(true))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return
		}
		if isValue(dec, token) {
			each(token.String())
		}
	}
}

// isValue reports whether the token that was just read is a text or a number, and
// not a member's name.
func isValue(dec *jsontext.Decoder, token jsontext.Token) bool {
	k := token.Kind()
	in, n := dec.StackIndex(dec.StackDepth())
	return k == '0' || k == '"' && (in != '{' || n%2 == 0)
}

// Whole reports whether the payload had to be left out whole.
func (s Shown) Whole() bool { return s.whole }

// Text returns a text without the values that the payload had where the rules
// say, and nothing of it where the payload had to be left out whole: nobody knows
// what it repeats. A value of less than four bytes is not looked for.
func (s Shown) Text(text string) string {
	if s.whole && text != "" {
		return Mark
	}
	return s.Own(text)
}

// Own is [Shown.Text] for a text that repeats only values that were read from the
// payload, such as what was wrong with one.
func (s Shown) Own(text string) string {
	for _, v := range s.longestFirst() {
		text = strings.ReplaceAll(text, v, Mark)
	}
	return text
}

// longestFirst keeps the rest of a longer value from being left.
func (s Shown) longestFirst() []string {
	values := slices.Clone(s.values)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(values)
}

// JSON returns a JSON document that was made of the payload, such as what a
// destination's map makes of it, without these values.
func (s Shown) JSON(doc []byte) []byte {
	if s.whole {
		return mark
	}
	if len(s.values) == 0 {
		return doc
	}
	dec := jsontext.NewDecoder(strings.NewReader(string(doc)), jsontext.AllowDuplicateNames(true))
	var out strings.Builder
	enc := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true))
	for {
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return []byte(strings.TrimSpace(out.String()))
		}
		if err != nil {
			return mark
		}
		if isValue(dec, token) {
			if text := token.String(); s.Text(text) != text {
				token = jsontext.String(s.Text(text))
			}
		}
		if enc.WriteToken(token) != nil {
			return mark
		}
	}
}

// Store returns a trigger's payload as it is to be stored, and whether anything
// was replaced. Root is body, or record where the trigger carries one. What can't
// be looked into is replaced whole.
func (r Rules) Store(root string, doc []byte) (out []byte, replaced bool) {
	if !r.Stored || !r.has(root) || len(doc) == 0 {
		return doc, false
	}
	var s Shown
	out, err := r.in(&s, root, doc)
	if err != nil {
		return mark, true
	}
	return out, string(out) != string(doc)
}

// StoreEnriched is [Rules.Store] for the body of an enriched event.
func (r Rules) StoreEnriched(doc []byte) []byte {
	if !r.Stored {
		return doc
	}
	return r.Show(event.PrefixEnriched+".", event.Event{}, doc).Payload
}

// Hides reports whether a value that is looked for at a path below a root would
// not be there any more once it is stored.
func (r Rules) Hides(root string, at field.Path) bool {
	return r.Stored && slices.ContainsFunc(r.paths, func(p path) bool { return p.root == root && p.rest.Leads(at) })
}
