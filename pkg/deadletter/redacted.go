package deadletter

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Source is the source of the original event, as far as it is known: of an
// original that was gone it is only when the enricher gave it up.
func (l Letter) Source() string {
	if l.Event.Source == "" && l.Stage == topology.StageEnrich {
		return l.Name
	}
	return l.Event.Source
}

// Redacted returns the letter as it may be shown, by the rules of its source. It
// must have its payload, as [Get] returns it: what is to be left out of the
// reason is only known from there.
func (l Letter) Redacted(rules redact.Set) Letter {
	r := rules.Of(l.Source())
	if r.IsZero() {
		return l
	}
	shown := r.Show(l.Subject, l.Event, l.Payload)
	l.Payload = shown.Payload
	l.Reason.Message, l.Reason.Detail = shown.Text(l.Reason.Message), shown.Text(l.Reason.Detail)
	header := make(nats.Header, len(l.Header))
	for name, values := range l.Header {
		header[name] = slices.Clone(values)
		for i, v := range values {
			header[name][i] = shown.Text(v)
		}
	}
	l.Header = header
	return l
}

// RedactedIn is [Letter.Redacted] for a letter of a list, which has no payload
// and gets none. The payload is read where the source has rules.
func (l Letter) RedactedIn(ctx context.Context, js jetstream.JetStream, rules redact.Set) (Letter, error) {
	if rules.Of(l.Source()).IsZero() {
		return l, nil
	}
	whole, err := Get(ctx, js, l.Sequence)
	if err != nil && !errors.Is(err, ErrNotFound) { // it may have left meanwhile
		return Letter{}, err
	}
	l.Payload = whole.Payload
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
	g.Message = Blank(g.Sample.Reason.Message)
	return g, nil
}

// Redacted returns the edit of a letter as it may be shown, by the rules of its
// source.
func (e Edited) Redacted(l Letter, rules redact.Set) Edited {
	r := rules.Of(l.Source())
	before, after := r.Show(l.Subject, l.Event, e.Before), r.Show(l.Subject, l.Event, e.After)
	both := before.With(after) // a patch may copy a value to where no rule is of
	e.Before, e.After = before.Payload, both.JSON(after.Payload)
	if len(e.Patch) > 0 {
		e.Patch = both.JSON(e.Patch)
	}
	return e
}
