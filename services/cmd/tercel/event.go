package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

type eventCmd struct {
	Trace traceCmd `cmd:"" help:"Show an event's whole way and where it is now."`
}

type traceCmd struct {
	pipelineFlags
	ID     string `arg:"" help:"The event's id, or the provider's id of a delivery."`
	Source string `help:"Look at this source's events only, which is faster." placeholder:"NAME"`
	JSON   bool   `name:"json" help:"Print the way as JSON."`
}

// Help is shown by --help.
func (traceCmd) Help() string {
	return `Looks through the stored events' headers; with millions of them that takes a while.
Exits 1 when no event has the id.

Example:
  tercel event trace evt_1NG8Du2eZvKYlo2C --source stripe`
}

// way is an event's way through the pipeline.
type way struct {
	ID    string `json:"id"`
	State string `json:"state"` // enriching, delivering, delivered, dead-lettered, done
	Steps []step `json:"steps"`
}

type step struct {
	At       time.Time `json:"at,omitzero"`
	Stage    string    `json:"stage"`
	What     string    `json:"what"`
	Stream   string    `json:"stream,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"`
	TraceID  string    `json:"trace_id,omitempty"`
}

// Run runs the command.
func (c traceCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	t := tracer{js: nc.js, id: c.ID, sourceName: c.Source, source: "*"}
	if c.Source != "" {
		t.source = event.Escape(c.Source)
	}
	w, err := t.trace(a.ctx)
	if err != nil {
		return err
	}
	if len(w.Steps) == 0 {
		return fmt.Errorf("no stored event has the id %s; it may be older than the streams keep, or was refused (the ingress logs refusals)", c.ID)
	}
	if c.JSON {
		return printJSON(a.out, w)
	}
	fmt.Fprintf(a.out, "event %s: %s\n", printable(w.ID), w.State)
	tb := newTable(a.out, "at", "stage", "what", "stored")
	for _, s := range w.Steps {
		stored := "-"
		if s.Stream != "" {
			stored = fmt.Sprintf("%s %d", s.Stream, s.Sequence)
		}
		tb.row(stamp(s.At), s.Stage, s.What, stored)
	}
	return tb.flush()
}

// tracer finds an event by its id in every stream.
type tracer struct {
	js         jetstream.JetStream
	id         string
	sourceName string // "" for all
	source     string // the same as a subject token, or "*"
	way        way

	waiting, dead int
}

func (t *tracer) trace(ctx context.Context) (way, error) {
	letters, err := t.letters(ctx)
	if err != nil {
		return way{}, err
	}
	if err := t.triggers(ctx, letters); err != nil {
		return way{}, err
	}
	if err := t.events(ctx, letters); err != nil {
		return way{}, err
	}
	switch {
	case t.waiting > 0:
		t.way.State = "under way"
	case t.dead > 0:
		t.way.State = "dead-lettered"
	default:
		t.way.State = "done"
	}
	return t.way, nil
}

// place is where a message is stored.
type place struct {
	stream, consumer string
	sequence         uint64
}

// letters are the event's dead letters by what they are of.
func (t *tracer) letters(ctx context.Context) (map[place]deadletter.Letter, error) {
	found := map[place]deadletter.Letter{}
	for l, err := range deadletter.List(ctx, t.js, deadletter.Filter{Source: t.sourceName}) {
		if err != nil {
			return nil, err
		}
		if t.is(l.Event) {
			found[place{l.Stream, l.Consumer, l.OriginalSequence}] = l
		}
	}
	return found, nil
}

func (t *tracer) is(e event.Event) bool { return e.ID == t.id || e.DeliveryID == t.id }

// scan yields the messages of a stream that carry the event.
func (t *tracer) scan(ctx context.Context, stream, prefix string, each func(consume.Message, event.Event) error) error {
	for m, err := range consume.Scan(ctx, t.js, consume.ScanOptions{
		Stream: stream, Subjects: []string{prefix + "." + t.source + ".>"}, HeadersOnly: true,
	}) {
		if err != nil {
			return err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil || !t.is(e) {
			continue
		}
		t.way.ID = e.ID
		if err := each(m, e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tracer) add(m consume.Message, stage, what string) {
	t.way.Steps = append(t.way.Steps, step{
		At: m.StoredAt, Stage: stage, What: what, Stream: m.Stream, Sequence: m.Sequence, TraceID: traceID(m.Header),
	})
}

func (t *tracer) triggers(ctx context.Context, letters map[place]deadletter.Letter) error {
	return t.scan(ctx, topology.StreamRaw, event.PrefixRaw, func(m consume.Message, e event.Event) error {
		t.add(m, "ingress", fmt.Sprintf("stored as %s, origin %s", e.Type, e.Origin))
		durable := topology.EnrichDurable(e.Source)
		return t.outcome(ctx, m, topology.StreamRaw, durable, letters)
	})
}

func (t *tracer) events(ctx context.Context, letters map[place]deadletter.Letter) error {
	stream, err := t.js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return fmt.Errorf("read %s: %w", topology.StreamEnriched, err)
	}
	var consumers []*jetstream.ConsumerInfo
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if stage, _, ok := topology.Stage(info.Name); ok && stage == topology.StageDeliver {
			consumers = append(consumers, info)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list destinations: %w", err)
	}
	return t.scan(ctx, topology.StreamEnriched, event.PrefixEnriched, func(m consume.Message, e event.Event) error {
		what := "no resource speaks of it"
		if e.Resource != "" {
			what = fmt.Sprintf("%s %s, version %s", e.Resource, e.RecordID, orDash(string(e.Version)))
		}
		if e.Deleted {
			what = fmt.Sprintf("%s %s is gone at the source", e.Resource, e.RecordID)
		}
		t.add(m, "enrich", what)
		for _, info := range consumers {
			if !takes(info.Config, m.Subject) {
				continue
			}
			if err := t.outcome(ctx, m, topology.StreamEnriched, info.Name, letters); err != nil {
				return err
			}
		}
		return nil
	})
}

// outcome adds what became of a message at one consumer.
func (t *tracer) outcome(ctx context.Context, m consume.Message, stream, durable string, letters map[place]deadletter.Letter) error {
	stage, name, _ := topology.Stage(durable)
	if l, ok := letters[place{stream, durable, m.Sequence}]; ok {
		t.dead++
		if l.State == deadletter.StateReplayed {
			t.dead--
		}
		t.way.Steps = append(t.way.Steps, step{
			At: l.DeadAt, Stage: stage + " " + name, Stream: topology.StreamDLQ, Sequence: l.Sequence, TraceID: l.Reason.TraceID,
			What: fmt.Sprintf("dead letter (%s) after %d attempts: %s [%s]", l.Reason.Class, l.Reason.Attempts, l.Reason.Message, l.State),
		})
		return nil
	}
	cons, err := t.js.Consumer(ctx, stream, durable)
	if err != nil {
		t.waiting++
		t.way.Steps = append(t.way.Steps, step{Stage: stage + " " + name, What: "nobody works on it: " + err.Error()})
		return nil
	}
	info := cons.CachedInfo()
	switch {
	case m.Sequence <= info.AckFloor.Stream:
		if stage == topology.StageDeliver {
			t.way.Steps = append(t.way.Steps, step{Stage: stage + " " + name, What: "delivered"})
		}
	case m.Sequence > info.Delivered.Stream:
		t.waiting++
		t.way.Steps = append(t.way.Steps, step{Stage: stage + " " + name, What: fmt.Sprintf("waiting, as one of %d", info.NumPending) + paused(info)})
	default:
		t.waiting++
		t.way.Steps = append(t.way.Steps, step{Stage: stage + " " + name, What: "in hand, or between two attempts, or done behind one that is" + paused(info)})
	}
	return nil
}

// paused says until when a consumer gets nothing, if it is paused: the source's
// API has asked for it, or refuses the credentials.
func paused(info *jetstream.ConsumerInfo) string {
	if !info.Paused {
		return ""
	}
	return ", paused until " + stamp(time.Now().Add(info.PauseRemaining))
}

// takes reports whether a consumer's filters let a subject through.
func takes(c jetstream.ConsumerConfig, subject string) bool {
	filters := c.FilterSubjects
	if c.FilterSubject != "" {
		filters = append(filters, c.FilterSubject)
	}
	for _, f := range filters {
		if matchSubject(strings.Split(f, "."), strings.Split(subject, ".")) {
			return true
		}
	}
	return len(filters) == 0
}

func matchSubject(filter, subject []string) bool {
	for i, part := range filter {
		if part == ">" {
			return len(subject) > i
		}
		if i >= len(subject) || part != "*" && part != subject[i] {
			return false
		}
	}
	return len(filter) == len(subject)
}

// traceID is the trace in a W3C traceparent: version-traceid-spanid-flags.
func traceID(h nats.Header) string {
	parts := strings.Split(h.Get(event.HeaderTraceParent), "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}
