package provider

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/signature"
)

// Split says where in a request's body its events are, for senders that put
// several into one request. It is written as the path of an array, such as
// body.events, or body where the whole body is one. Behind [] may follow where
// in each element the event is: body.items[].event. The zero Split makes each
// request one event.
type Split struct {
	text        string
	list, inner field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Split) Forms() []any { return []any{""} }

// DecodeNode reads the path.
func (s *Split) DecodeNode(n config.Node) {
	split, err := ParseSplit(n.Text())
	if err != nil {
		n.Fault("the path of an array such as body.events (" + err.Error() + ")")
		return
	}
	*s = split
}

// ParseSplit reads a path such as body, body.events or body.items[].event.
func ParseSplit(text string) (Split, error) {
	list, inner, _ := strings.Cut(text, "[]")
	root, path, dotted := strings.Cut(list, ".")
	if root != "body" || dotted && path == "" {
		return Split{}, fmt.Errorf("%q: want a path that begins with body", text)
	}
	if inner != "" && !strings.HasPrefix(inner, ".") || inner == "." || strings.Contains(inner, "[]") {
		return Split{}, fmt.Errorf("%q: want at most one [], and a path behind it", text)
	}
	s := Split{text: text}
	var err error
	if s.list, err = field.ParsePath(path); err != nil {
		return Split{}, err
	}
	s.inner, err = field.ParsePath(strings.TrimPrefix(inner, "."))
	return s, err
}

// String gives the path as it was written.
func (s Split) String() string { return s.text }

// IsZero reports whether a request is one event.
func (s Split) IsZero() bool { return s.text == "" }

// Items returns a request's events in their order, as slices of its body, which
// must have passed [field.Valid]. An error means that there is no such array or
// that an element has no event; it names the element and quotes nothing.
func (s Split) Items(body []byte) ([][]byte, error) {
	list, err := s.list.One(body)
	if errors.Is(err, field.ErrMissing) {
		return nil, fmt.Errorf("%s: %w", s.text, err)
	}
	if err != nil {
		return nil, err
	}
	if list.Kind() != '[' {
		return nil, fmt.Errorf("%s: not an array", s.text)
	}
	items, err := field.Elements(list)
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		if items[i], err = s.inner.One(item); err != nil {
			return nil, fmt.Errorf("%s: element %d of %d: %w", s.text, i+1, len(items), err)
		}
	}
	return items, nil
}

// validateSplit finds expressions that don't fit to how the source's requests
// are split.
func (s *Source) validateSplit(c *config.Check) {
	e := s.Event
	if e.Account.Uses("item") {
		c.Fault("event.account", "", "an expression over body: all events of a request are of one account")
	}
	if e.Split.IsZero() {
		for _, x := range []struct {
			key  string
			expr TriggerExpr
		}{{"event.id", e.ID}, {"event.type", e.Type}, {"event.time", e.Time}} {
			if x.expr.Uses("item") {
				c.Fault(x.key, "", "an expression over body, form or header: without event.split there is no item")
			}
		}
		if e.SignedItems {
			c.Fault("event.signed_items", "", "event.split beside it, which says where the items are")
		}
		return
	}
	for _, alternative := range e.ID {
		if !alternative.Uses("item") {
			c.Fault("event.id", "", "an expression over item, such as item.id: all events of a request would have the same id")
			break
		}
	}
	switch {
	case s.verifier == nil: // already a fault
	case e.SignedItems && s.verifier.Covers():
		c.Fault("event.signed_items", "", "nothing here, since verify covers the whole body")
	case !e.SignedItems && s.Verify.PartialBody:
		c.Fault("event.split", "", "signed_items: true beside it, since verify covers only parts of the body")
	}
}

// CheckSignature checks a request's signature as the source makes it: over the
// request, or over each of its events where those are signed. It returns what
// [signature.Verifier.Match] does, of several events for the first.
func (s *Source) CheckSignature(r signature.Request, keys []signature.Key, now time.Time) (signature.Match, error) {
	if !s.Event.SignedItems {
		return s.verifier.Match(r, keys, now)
	}
	refused := func(err error, reason string) (signature.Match, error) {
		return signature.Match{}, &signature.Error{Step: s.verifier.Steps()[0], Reason: reason, Err: err}
	}
	if err := field.Valid(r.Body); err != nil {
		return refused(signature.ErrMalformed, err.Error())
	}
	items, err := s.Event.Split.Items(r.Body)
	if err != nil {
		return refused(signature.ErrMalformed, err.Error())
	}
	if len(items) == 0 { // then nothing is signed
		return refused(signature.ErrMissing, s.Event.Split.String()+" is empty")
	}
	var first signature.Match
	for i, item := range items {
		r.Body = item
		match, err := s.verifier.Match(r, keys, now)
		var failed *signature.Error
		if errors.As(err, &failed) {
			return signature.Match{}, &signature.Error{Step: failed.Step, Reason: fmt.Sprintf("event %d of %d: %s", i+1, len(items), failed.Reason), Err: failed.Err}
		}
		if err != nil {
			return signature.Match{}, err
		}
		if i == 0 {
			first = match
		}
	}
	return first, nil
}
