package proof

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// Streams is what a pipeline's streams hold that must not be there, and its dead
// letters. The zero Streams is that of a pipeline which nobody looked into.
type Streams struct {
	refused     []string        // what was refused, and where it is
	dead        map[string]bool // webhooks, or records that a list told of, with an open dead letter that says all
	contextless []string        // letters that don't say all, and what they lack
	letters     int
}

// ReadStreams looks through what a pipeline left in the streams of triggers, of
// events and of dead letters. It takes about half a minute for a million webhooks
// and little memory: of events it reads the headers only, for their bodies are
// in the destination.
func ReadStreams(ctx context.Context, js jetstream.JetStream, book simulator.Book) (Streams, error) {
	s := Streams{dead: map[string]bool{}}
	fates, whole := fatesOf(book), map[uint64]bool{}
	for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ} {
		o := consume.ScanOptions{Stream: stream, HeadersOnly: stream == topology.StreamEnriched}
		for m, err := range consume.Scan(ctx, js, o) {
			if err != nil {
				return Streams{}, err
			}
			e, _ := event.FromHeader(m.Header) // what isn't the pipeline's has no id
			if fates[e.DeliveryID].refused() || forged(m) {
				s.refused = append(s.refused, fmt.Sprintf("%s is in %s at %d", cmp.Or(e.DeliveryID, "a message without an id"), stream, m.Sequence))
			}
			if stream == topology.StreamDLQ {
				whole[m.Sequence] = len(m.Data) > 0 && bytes.Contains(m.Data, []byte(e.DeliveryID))
			}
		}
	}
	return s, s.readLetters(ctx, js, whole)
}

// forged tells whether a message has the mark of a forgery anywhere.
func forged(m consume.Message) bool {
	for _, values := range m.Header {
		for _, v := range values {
			if strings.Contains(v, simulator.ForgedPrefix) {
				return true
			}
		}
	}
	return bytes.Contains(m.Data, []byte(simulator.ForgedPrefix))
}

// readLetters asks each dead letter whether it says all. Those in whole have the
// payload with their webhook's id in it.
func (s *Streams) readLetters(ctx context.Context, js jetstream.JetStream, whole map[uint64]bool) error {
	for l, err := range deadletter.List(ctx, js, deadletter.Filter{}) {
		if err != nil {
			return err
		}
		if !whole[l.Sequence] && !l.PayloadMissing { // it may have had no room
			full, err := deadletter.Get(ctx, js, l.Sequence)
			if err != nil {
				return err
			}
			whole[l.Sequence] = len(full.Payload) > 0 && bytes.Contains(full.Payload, []byte(l.Event.DeliveryID))
		}
		s.letters++
		lacks := lacking(l)
		if !whole[l.Sequence] {
			lacks = append(lacks, "its payload")
		}
		if len(lacks) > 0 {
			s.contextless = append(s.contextless, fmt.Sprintf("dead letter %d of %s lacks %s", l.Sequence,
				cmp.Or(l.Event.DeliveryID, l.Event.ID, l.Header.Get(event.HeaderDeliveryID), "an unknown webhook"), strings.Join(lacks, ", ")))
			continue
		}
		if id := cmp.Or(l.Event.DeliveryID, l.Event.RecordID); l.State == deadletter.StateOpen && id != "" {
			s.dead[id] = true
		}
	}
	return nil
}

// lacking names what a dead letter doesn't say and should: what it was, where it
// was, who gave it up, why and when.
func lacking(l deadletter.Letter) (lacks []string) {
	for _, part := range []struct {
		name  string
		there bool
	}{
		{"the event's attributes", l.Event.ID != "" && l.Event.Source != "" && l.Event.Type != "" && !l.Event.ReceivedAt.IsZero()},
		{"the delivery's id", l.Event.DeliveryID != "" || strings.HasPrefix(l.Event.ID, listed)},
		{"the original's subject", l.Subject != ""},
		{"the original's place", l.Stream != "" && l.OriginalSequence > 0},
		{"the original's message id", l.MsgID != ""},
		{"who gave it up", l.Stage != "" && l.Name != "" && (l.Kind == deadletter.Terminated || l.Kind == deadletter.MaxDeliver)},
		{"when it was given up", !l.DeadAt.IsZero()},
		{"the reason", l.Reason.Message != "" && l.Reason.Class != ""},
		{"its attempts", l.Reason.Attempts > 0 && !l.Reason.FirstAt.IsZero() && !l.Reason.LastAt.IsZero()},
	} {
		if !part.there {
			lacks = append(lacks, part.name)
		}
	}
	return lacks
}

// listed begins the ids of events that no webhook brought.
const listed = "reconcile:"
