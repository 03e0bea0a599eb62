package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
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
	State string `json:"state"` // under way, dead-lettered, dropped, done
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

	consumers map[string]*jetstream.ConsumerInfo // by durable name
	givenUp   map[place]bool                     // without a dead letter yet
	letters   map[place]deadletter.Letter        // of the event

	waiting, dead, dropped, enriched int
}

func (t *tracer) trace(ctx context.Context) (way, error) {
	// In this order what moves meanwhile is seen twice rather than not at all.
	for _, read := range []func(context.Context) error{t.readConsumers, t.readGivenUp, t.readLetters, t.triggers, t.drops, t.events} {
		if err := read(ctx); err != nil {
			return way{}, err
		}
	}
	switch {
	case t.waiting > 0:
		t.way.State = "under way"
	case t.dead > 0:
		t.way.State = "dead-lettered"
	case t.dropped > 0 && t.enriched == 0:
		t.way.State = "dropped"
	default:
		t.way.State = "done"
	}
	return t.way, nil
}

// place is where a message is stored, and the consumer that it is there for.
type place struct {
	stream, consumer string
	sequence         uint64
}

func (t *tracer) readConsumers(ctx context.Context) error {
	t.consumers = map[string]*jetstream.ConsumerInfo{}
	for _, name := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamAdvisories} {
		stream, err := t.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		list := stream.ListConsumers(ctx)
		for info := range list.Info() {
			t.consumers[info.Name] = info
		}
		if err := list.Err(); err != nil {
			return fmt.Errorf("consumers of %s: %w", name, err)
		}
	}
	return nil
}

// readGivenUp reads the advisories that no dead letter has been made of yet:
// their messages are acknowledged, and nevertheless not done.
func (t *tracer) readGivenUp(ctx context.Context) error {
	t.givenUp = map[place]bool{}
	from := uint64(1)
	if info := t.consumers[topology.CollectConsumer(topology.Delivery{}).Durable]; info != nil {
		from = info.AckFloor.Stream + 1
	}
	for m, err := range consume.Scan(ctx, t.js, consume.ScanOptions{Stream: topology.StreamAdvisories, FromSequence: from}) {
		if err != nil {
			return err
		}
		var a struct {
			Stream   string `json:"stream"`
			Consumer string `json:"consumer"`
			Sequence uint64 `json:"stream_seq"`
		}
		if json.Unmarshal(m.Data, &a) == nil { // what is no advisory is the collector's to tell
			t.givenUp[place{a.Stream, a.Consumer, a.Sequence}] = true
		}
	}
	return nil
}

func (t *tracer) readLetters(ctx context.Context) error {
	t.letters = map[place]deadletter.Letter{}
	for l, err := range deadletter.List(ctx, t.js, deadletter.Filter{Source: t.sourceName}) {
		if err != nil {
			return err
		}
		if t.is(l.Event) {
			t.letters[place{l.Stream, l.Consumer, l.OriginalSequence}] = l
		}
	}
	return nil
}

func (t *tracer) is(e event.Event) bool { return e.ID == t.id || e.DeliveryID == t.id }

// scan yields the messages of a stream that carry the event.
func (t *tracer) scan(ctx context.Context, stream, prefix string, each func(consume.Message, event.Event)) error {
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
		each(m, e)
	}
	return nil
}

func (t *tracer) add(m consume.Message, stage, what string) {
	t.way.Steps = append(t.way.Steps, step{
		At: m.StoredAt, Stage: stage, What: what, Stream: m.Stream, Sequence: m.Sequence, TraceID: traceID(m.Header),
	})
}

func (t *tracer) triggers(ctx context.Context) error {
	return t.scan(ctx, topology.StreamRaw, event.PrefixRaw, func(m consume.Message, e event.Event) {
		what := fmt.Sprintf("stored as %s, origin %s", e.Type, e.Origin)
		if e.Part != "" {
			what += fmt.Sprintf(", part %s of %s", e.Part, e.Request)
		}
		t.add(m, "ingress", what)
		t.outcome(m, topology.EnrichDurable(e.Source))
	})
}

func (t *tracer) drops(ctx context.Context) error {
	return t.scan(ctx, topology.StreamRaw, event.PrefixDropped, func(m consume.Message, e event.Event) {
		t.dropped++
		t.add(m, "enrich", "dropped: the pipeline file says so at sources."+e.Source+".drop")
	})
}

func (t *tracer) events(ctx context.Context) error {
	durables := slices.Sorted(maps.Keys(t.consumers))
	return t.scan(ctx, topology.StreamEnriched, event.PrefixEnriched, func(m consume.Message, e event.Event) {
		what := "no resource speaks of it"
		if e.Resource != "" {
			what = fmt.Sprintf("%s %s, version %s", e.Resource, e.RecordID, orDash(string(e.Version)))
		}
		if e.Deleted {
			what = fmt.Sprintf("%s %s is gone at the source", e.Resource, e.RecordID)
		}
		t.enriched++
		t.add(m, "enrich", what)
		for _, durable := range durables {
			if stage, _, ok := topology.Stage(durable); ok && stage == topology.StageDeliver && takes(t.consumers[durable].Config, m.Subject) {
				t.outcome(m, durable)
			}
		}
	})
}

// outcome adds what became of a message at one consumer.
func (t *tracer) outcome(m consume.Message, durable string) {
	stage, name, _ := topology.Stage(durable)
	at := place{m.Stream, durable, m.Sequence}
	if l, ok := t.letters[at]; ok {
		if l.State != deadletter.StateReplayed {
			t.dead++
		}
		t.way.Steps = append(t.way.Steps, step{
			At: l.DeadAt, Stage: stage + " " + name, Stream: topology.StreamDLQ, Sequence: l.Sequence, TraceID: l.Reason.TraceID,
			What: fmt.Sprintf("dead letter (%s) after %d attempts: %s [%s]", l.Reason.Class, l.Reason.Attempts, l.Reason.Message, l.State),
		})
		return
	}
	what, done := t.position(at)
	if !done {
		t.waiting++
	} else if stage != topology.StageDeliver {
		return // the event says so
	}
	t.way.Steps = append(t.way.Steps, step{Stage: stage + " " + name, What: what})
}

// position tells where a message without a dead letter is at a consumer, and
// whether nothing more will happen to it there.
func (t *tracer) position(at place) (what string, done bool) {
	info := t.consumers[at.consumer]
	switch {
	case t.givenUp[at]:
		return "given up; its dead letter is not collected yet, which is the reconciler's work", false
	case info == nil:
		return "nobody works on it: there is no consumer " + at.consumer, false
	case at.sequence <= info.AckFloor.Stream:
		if when := info.Config.Metadata[topology.MetadataWhen]; when != "" {
			return "delivered, unless its when leaves it out: " + printable(when), true
		}
		return "delivered", true
	case at.sequence > info.Delivered.Stream:
		return fmt.Sprintf("waiting, as one of %d", info.NumPending) + paused(info), false
	default:
		return "in hand, or between two attempts, or done behind one that is" + paused(info), false
	}
}

// paused says until when a consumer gets nothing, if it is paused: the source's
// API has asked for it, or refuses the credentials, or an operator did it.
func paused(info *jetstream.ConsumerInfo) string {
	if !info.Paused {
		return ""
	}
	return ", paused " + untilWhen(info.PauseRemaining)
}

// takes reports whether a consumer's filters let a subject through.
func takes(c jetstream.ConsumerConfig, subject string) bool {
	filters := c.FilterSubjects
	if c.FilterSubject != "" {
		filters = append(filters, c.FilterSubject)
	}
	for _, f := range filters {
		if event.Match(f, subject) {
			return true
		}
	}
	return len(filters) == 0
}

// traceID is the trace in a W3C traceparent: version-traceid-spanid-flags.
func traceID(h nats.Header) string {
	parts := strings.Split(h.Get(event.HeaderTraceParent), "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}
