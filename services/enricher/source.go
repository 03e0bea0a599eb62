package enricher

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// Bounds of what one trigger may ask for. A trigger beyond them is given up.
const (
	maxRecords       = 256
	maxRecordIDBytes = 256
)

// source works on the triggers of one source.
type source struct {
	name     string
	cfg      provider.Source
	api      Caller // nil when the source has no resources
	outage   outage
	attempts int // after how many a trigger is given up
	// store and note take what a trigger leads to: its events, and that it was
	// dropped. They return once that is stored.
	store, note func(context.Context, *nats.Msg) error
	dropped     metric.Int64Counter
}

// Caller asks a source's API; a [sourceapi.Client] does.
type Caller interface {
	Do(context.Context, sourceapi.Request) (sourceapi.Answer, error)
}

// trigger is a message of TERCEL_RAW, read.
type trigger struct {
	event.Event
	msgID string
	raw   []byte
	value jsontext.Value // raw as it stands in an enriched event

	attempt int
	age     time.Duration // when it was delivered
}

// scope is what the paths of a resource may refer to. A trigger that carries
// its record has no body of its own to look into.
func (t trigger) scope(id string, record []byte) field.Scope {
	s := field.Scope{Docs: map[string][]byte{"record": record}, Values: map[string]string{"id": id}}
	if t.Resource == "" {
		s.Docs["body"] = t.raw
	}
	if t.Account != event.NoAccount {
		s.Values["account"] = t.Account
	}
	return s
}

// handle works on one trigger. It returns nil only after everything that the
// trigger leads to was stored (promise 5); there is no way past an error to an
// event without its record.
func (s *source) handle(ctx context.Context, m consume.Message) error {
	t, err := s.read(m)
	if err != nil {
		return fault.Permanent(fmt.Errorf("trigger: %w", err))
	}
	err = s.work(ctx, t)
	if s.api == nil {
		return err
	}
	return s.outage.after(ctx, m.Age, err)
}

// work makes of a trigger what it leads to.
func (s *source) work(ctx context.Context, t trigger) error {
	if t.Resource == "" {
		t.value = event.TriggerValue(t.ContentType, t.raw)
	}
	if dropped, err := s.drop(ctx, t); dropped || err != nil {
		return err
	}
	if t.Resource != "" {
		return s.passOn(ctx, t)
	}
	name, res, ok := s.cfg.ResourceFor(t.Type)
	if !ok {
		return s.publish(ctx, t.Event, t.msgID, event.Body{Trigger: t.value})
	}
	ids, err := recordIDs(res, t.raw)
	if err != nil {
		return fault.Permanent(fmt.Errorf("trigger of %s: %w", name, err))
	}
	errs := make([]error, len(ids))
	one := func(i int, id string) {
		j := job{trigger: t, res: res, event: t.Event, msgID: t.msgID, believe: s.believes(t)}
		if len(ids) > 1 {
			j.event.ID, j.msgID = t.ID+"#"+id, t.msgID+":"+event.Escape(id)
		}
		j.event.Resource, j.event.RecordID = name, id
		if err := s.enrich(ctx, j); err != nil {
			errs[i] = fmt.Errorf("%s %s: %w", name, id, err)
		}
	}
	if len(ids) == 1 { // as nearly always: a goroutine would have to grow its stack first
		one(0, ids[0])
		return errs[0]
	}
	var group errgroup.Group
	group.SetLimit(s.cfg.API.Concurrency)
	for i, id := range ids {
		group.Go(func() error {
			one(i, id)
			return nil // each record is worked on, whatever becomes of the others
		})
	}
	_ = group.Wait()
	return combine(errs)
}

// patience is how long after a trigger was stored its source may show an older
// record than it speaks of.
const patience = time.Minute

// believes reports whether what the source shows is taken, however old it is: it
// had its time, or this is the last attempt. An event with an old record that says
// so is of more use than a dead letter: it overwrites nothing newer (promise 7),
// and what the source shows later is found when it is reconciled (promise 6).
func (s *source) believes(t trigger) bool {
	return t.attempt >= s.attempts || t.age > patience
}

func (s *source) read(m consume.Message) (trigger, error) {
	e, err := event.FromHeader(m.Header)
	if err != nil {
		return trigger{}, err
	}
	e.Checked, e.Received, e.ReceivedHash = "", "", "" // they are said of the trigger
	t := trigger{Event: e, msgID: m.Header.Get(jetstream.MsgIDHeader), raw: m.Data, attempt: m.Attempt, age: m.Age}
	if t.msgID == "" {
		return trigger{}, fmt.Errorf("header %s: missing", jetstream.MsgIDHeader)
	}
	if t.Source != s.name {
		return trigger{}, fmt.Errorf("header %s: names source %q, the subject %s", event.HeaderSource, t.Source, s.name)
	}
	if t.TriggerSequence == 0 {
		t.TriggerSequence = m.Sequence
	}
	return t, nil
}

// passOn publishes a trigger that carries its record with what belongs to it, or
// its tombstone. The source has shown already what it has: nobody asks for it
// again.
func (s *source) passOn(ctx context.Context, t trigger) error {
	if t.Deleted {
		if t.RecordID == "" || t.Version != "" || t.ObservedAt.IsZero() {
			return fault.Permanent(fmt.Errorf("trigger with a tombstone of %s: want an id, a time of observation and no version", t.Resource))
		}
		return s.publish(ctx, t.Event, t.msgID, event.Body{Deleted: true})
	}
	if t.RecordID == "" || t.Version == "" || t.ObservedAt.IsZero() {
		return fault.Permanent(fmt.Errorf("trigger with a record of %s: id, version or time of observation is missing", t.Resource))
	}
	if err := field.Valid(t.raw); err != nil {
		return fault.Permanent(fmt.Errorf("trigger with a record: %s %s: %w", t.Resource, t.RecordID, err))
	}
	body := event.Body{Record: t.raw}
	if res, ok := s.cfg.Resources[t.Resource]; ok {
		related, err := s.complete(ctx, res, t.Account, t.scope(t.RecordID, t.raw), &body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", t.Resource, t.RecordID, err)
		}
		t.Fetched = related.String()
	}
	return s.publish(ctx, t.Event, t.msgID, body)
}

// recordIDs finds the ids of the records that a trigger names, each once.
func recordIDs(res provider.Resource, raw []byte) ([]string, error) {
	found, err := res.ID.All(field.Scope{Docs: map[string][]byte{"body": raw}})
	if err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	ids, seen := found[:0], make(map[string]bool, len(found))
	for _, id := range found {
		if len(id) > maxRecordIDBytes {
			return nil, fmt.Errorf("id of %d bytes, want at most %d", len(id), maxRecordIDBytes)
		}
		if !seen[id] {
			ids, seen[id] = append(ids, id), true
		}
	}
	if len(ids) > maxRecords {
		return nil, fmt.Errorf("names %d records, want at most %d", len(ids), maxRecords)
	}
	return ids, nil
}

// publish stores an enriched event and returns nil once it is acknowledged
// (promise 5). A repeat of the same trigger gives the same Nats-Msg-Id, which
// the stream absorbs (promise 4).
func (s *source) publish(ctx context.Context, ev event.Event, msgID string, body event.Body) error {
	ev.ContentType = "application/json"
	msg := nats.NewMsg(ev.EnrichedSubject())
	msg.Header = ev.Header()
	msg.Header.Set(jetstream.MsgIDHeader, msgID)
	event.InjectTrace(ctx, msg.Header)
	msg.Data = s.cfg.Redact.StoreEnriched(body.Encode())
	err := s.store(ctx, msg)
	if publish.TooLarge(err) {
		return fault.Permanent(fmt.Errorf("publish event of %d bytes: %w", len(msg.Data), err))
	}
	if err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	return nil
}
