package deadletter

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/redact"
)

// Redacted returns the letter as it may be shown, by the rules of its source. It
// must have its payload, as [Get] returns it: what is to be left out of the
// reason is only known from there. Where the payload is missing or is left out whole,
// all that the letter has in words is left out.
func (l Letter) Redacted(rules redact.Set) Letter {
	r := l.rules(rules)
	if r.IsZero() {
		return l
	}
	shown := r.Show(l.Subject, l.Event, l.Payload)
	text, whole := shown.Text, shown.Whole() || l.PayloadMissing
	if l.PayloadMissing {
		text = wholly
	}
	l.Payload = shown.Payload
	l.Reason.Message, l.Reason.Detail = text(l.Reason.Message), text(l.Reason.Detail)
	header := make(nats.Header, len(l.Header))
	for name, values := range l.Header {
		header[name] = slices.Clone(values)
		for i, v := range values {
			if !whole || !ours(name) { // those are shown as the event's attributes, too
				header[name][i] = text(v)
			}
		}
	}
	l.Header = header
	return l
}

// rules are those of the letter's source. One that isn't known can be any, so
// that everything is shown only where no source has rules.
func (l Letter) rules(all redact.Set) redact.Rules {
	r := all.Of(l.Source())
	if l.Source() == "" && len(all) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(all)), hides) {
		return redact.Rules{}
	}
	return r
}

func hides(r redact.Rules) bool { return !r.IsZero() }

// wholly leaves out a text of which nobody knows any more what must not be shown.
func wholly(text string) string {
	if text == "" {
		return ""
	}
	return redact.Mark
}

// RedactedIn is [Letter.Redacted] for a letter of a list, which has no payload
// and gets none. The payload is read where the source has rules.
func (l Letter) RedactedIn(ctx context.Context, js jetstream.JetStream, rules redact.Set) (Letter, error) {
	if l.rules(rules).IsZero() {
		return l, nil
	}
	whole, err := Get(ctx, js, l.Sequence)
	gone := errors.Is(err, ErrNotFound) // it may have left meanwhile
	if err != nil && !gone {
		return Letter{}, err
	}
	l.Payload, l.PayloadMissing = whole.Payload, whole.PayloadMissing || gone
	l = l.Redacted(rules)
	l.Payload = nil
	return l, nil
}

// Redacted returns the group as it may be shown, by the rules of its source.
func (g Group) Redacted(ctx context.Context, js jetstream.JetStream, rules redact.Set) (Group, error) {
	if rules.Of(g.Source).IsZero() {
		return g, nil
	}
	var err error
	if g.Sample, err = g.Sample.RedactedIn(ctx, js, rules); err != nil {
		return Group{}, err
	}
	g.Message = blank(g.Sample.Reason.Message)
	return g, nil
}

// Redacted returns the edit of a letter as it may be shown, by the rules of its
// source.
func (e Edited) Redacted(l Letter, rules redact.Set) Edited {
	r := l.rules(rules)
	before, after := r.Show(l.Subject, l.Event, e.Before), r.Show(l.Subject, l.Event, e.After)
	both := before.With(after) // a patch may copy a value to where no rule is of
	e.Before, e.After = before.Payload, both.JSON(after.Payload)
	if len(e.Patch) > 0 {
		e.Patch = both.JSON(e.Patch)
	}
	return e
}
