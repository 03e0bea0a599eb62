package deadletter

import (
	"slices"

	"github.com/nats-io/nats.go"

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
