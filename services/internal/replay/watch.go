package replay

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// watch finds out what becomes of replayed messages. Nothing tells so: it
// compares the ack floors of consumers with where the messages are, and looks for
// new dead letters. One goroutine may look while others add.
type watch struct {
	js jetstream.JetStream
	// enriched and letters are the last messages of TERCEL_ENRICHED and TERCEL_DLQ
	// that were looked at.
	enriched, letters uint64
	// events and again are what was found there so far, by the marks of message
	// ids: messages can get there before add has told of them.
	events   map[string][]placed
	again    map[string]bool
	outcomes // of the messages of which it is known

	mu   sync.Mutex                     // guards open
	open map[string]deadletter.Replayed // those whose outcome isn't, by mark
}

// outcomes are what became of messages.
type outcomes struct{ delivered, filtered, dead int }

// placed is an enriched event in its stream.
type placed struct {
	sequence uint64
	subject  string
	event    event.Event
}

func newWatch(ctx context.Context, js jetstream.JetStream) (*watch, error) {
	w := &watch{js: js, events: map[string][]placed{}, again: map[string]bool{}, open: map[string]deadletter.Replayed{}}
	for name, last := range map[string]*uint64{topology.StreamEnriched: &w.enriched, topology.StreamDLQ: &w.letters} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		*last = s.CachedInfo().State.LastSeq
	}
	return w, nil
}

// add has a message watched.
func (w *watch) add(r deadletter.Replayed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[event.AgainMark(r.MsgID, event.Replay)] = r
}

// look returns what became of messages by now.
func (w *watch) look(ctx context.Context) (outcomes, error) {
	w.mu.Lock()
	open := maps.Clone(w.open)
	w.mu.Unlock()
	if len(open) == 0 {
		return w.outcomes, nil
	}
	// Consumers first: what is done by their word was stored before, the event
	// and the dead letter alike, so the streams are then found to have it.
	enrich, err := consumers(ctx, w.js, topology.StreamRaw)
	if err != nil {
		return outcomes{}, err
	}
	deliver, err := consumers(ctx, w.js, topology.StreamEnriched)
	if err != nil {
		return outcomes{}, err
	}
	if err := w.find(ctx); err != nil {
		return outcomes{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for mark, r := range open {
		switch {
		case w.again[mark]:
			w.dead++
		default:
			done, takers := w.done(mark, r, enrich, deliver)
			switch {
			case !done:
				continue
			case takers == 0:
				w.filtered++
			default:
				w.delivered++
			}
		}
		delete(w.open, mark)
	}
	return w.outcomes, nil
}

// find finds the events and dead letters that follow from replays and are new.
func (w *watch) find(ctx context.Context) error {
	for m, err := range consume.Scan(ctx, w.js, consume.ScanOptions{
		Stream: topology.StreamEnriched, HeadersOnly: true, FromSequence: w.enriched + 1,
	}) {
		if err != nil {
			return err
		}
		w.enriched = m.Sequence
		mark := event.AgainMark(m.Header.Get(jetstream.MsgIDHeader), event.Replay)
		if e, err := event.FromHeader(m.Header); err == nil && mark != "" {
			w.events[mark] = append(w.events[mark], placed{m.Sequence, m.Subject, e})
		}
	}
	for l, err := range deadletter.List(ctx, w.js, deadletter.Filter{After: w.letters}) {
		if err != nil {
			return err
		}
		w.letters = l.Sequence
		if mark := event.AgainMark(l.MsgID, event.Replay); mark != "" {
			w.again[mark] = true
		}
	}
	return nil
}

// done reports whether every stage and destination that a message is for is done
// with it, and how many destinations those are.
func (w *watch) done(mark string, r deadletter.Replayed, enrich, deliver map[string]*jetstream.ConsumerInfo) (done bool, takers int) {
	if r.Stream == topology.StreamRaw {
		worked := false
		for _, info := range enrich {
			if topology.Takes(info.Config, r.Subject) {
				worked = true
				if info.AckFloor.Stream < r.Sequence {
					return false, 0
				}
			}
		}
		if !worked {
			return false, 0
		}
	} else if r.Sequence > w.enriched {
		return false, 0
	}
	for _, p := range w.events[mark] {
		for _, info := range deliver {
			stage, name, _ := topology.Stage(info.Name)
			if stage == topology.StageDeliver && p.event.For(name) && topology.Takes(info.Config, p.subject) {
				if takers++; info.AckFloor.Stream < p.sequence {
					return false, 0
				}
			}
		}
	}
	return true, takers
}
