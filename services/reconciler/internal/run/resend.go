package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// sendEvents stores the triggers of missed events, and returns what became of
// each once all of them are acknowledged. The ingress then knows them: a webhook
// that comes later has no second effect (promise 4).
func (c *comparison) sendEvents(ctx context.Context, gaps []record) ([]fate, error) {
	fates := make([]fate, len(gaps))
	if err := c.redeliver(ctx, gaps, fates); err != nil {
		return nil, err
	}
	sent := sent{at: map[string]uint64{}}
	err := c.sendListed(ctx, gaps, fates, &sent)
	if err == nil && sent.refused != nil && !sent.had && max(c.entry.Failures, c.w.Unread) < maxUnread {
		err = fault.Permanent(fmt.Errorf("%w; %w", errUnread, sent.refused)) // as of a wrong configuration
	}
	if c.cfg.Source.Dedup.Horizon > 0 { // also where one failed: the others are not sent again
		err = errors.Join(err, seen.Note(context.WithoutCancel(ctx), c.deps.JetStream, sent.at))
	}
	return fates, err
}

// sent is what became of a page's events.
type sent struct {
	mu      sync.Mutex        // guards those below
	at      map[string]uint64 // the sequences of what was stored, by Nats-Msg-Id
	had     bool              // one could be had, so that it is not the configuration
	refused error             // why one can't be had that the source still knows
}

func (s *sent) stored(m *nats.Msg, ack publish.Ack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[m.Header.Get(jetstream.MsgIDHeader)] = ack.Sequence
}

func (s *sent) asked(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.had = s.had || err == nil; err != nil {
		s.refused = err
	}
}

// sendListed sends those events that are left so, until one can't be sent. One that
// the source has no more or refuses for good is lost, and holds up no other.
func (c *comparison) sendListed(ctx context.Context, gaps []record, fates []fate, sent *sent) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(maxPublishing)
	for i, rec := range gaps {
		if fates[i] != left {
			continue
		}
		if err := c.deps.Repairs.Wait(inner); err != nil {
			return errors.Join(g.Wait(), err)
		}
		g.Go(func() error {
			m, err := c.listedTrigger(inner, rec)
			if errors.Is(err, sourceapi.ErrNotFound) || errors.Is(err, field.ErrMissing) {
				fates[i] = lost
				return nil
			}
			if err != nil {
				err = fmt.Errorf("send event %s again: %w", rec.id, err)
				if !fault.IsPermanent(err) {
					return err
				}
				fates[i] = lost
				sent.asked(err)
				return nil
			}
			sent.asked(nil)
			ack, err := c.publishOnce(ctx, m) // another's fault doesn't end the wait for what may be stored
			if publish.TooLarge(err) {
				fates[i] = lost
				return nil
			}
			if err != nil {
				return fmt.Errorf("send event %s again: %w", rec.id, err)
			}
			if fates[i] = repaired; ack.Duplicate {
				fates[i] = arrived
			}
			sent.stored(m, ack)
			return nil
		})
	}
	return g.Wait()
}

// publishOnce stores a trigger unless the stream has it. A stream absorbs for a
// while what it no longer has, after a purge: that is sent under a fresh id.
func (c *comparison) publishOnce(ctx context.Context, m *nats.Msg) (publish.Ack, error) {
	c.redactStored(m)
	ack, err := c.deps.Publisher.Publish(ctx, m)
	if err != nil || !ack.Duplicate {
		return ack, err
	}
	stream, err := c.deps.JetStream.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return ack, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	id := m.Header.Get(jetstream.MsgIDHeader)
	there, err := stream.GetMsg(ctx, ack.Sequence)
	switch {
	case err == nil && there.Header.Get(jetstream.MsgIDHeader) == id:
		return ack, nil
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		return ack, fmt.Errorf("message %s %d: %w", topology.StreamRaw, ack.Sequence, err)
	}
	m.Header.Set(jetstream.MsgIDHeader, event.AgainID(id, event.Reconcile))
	return c.deps.Publisher.Publish(ctx, m)
}

// listedTrigger is the trigger that the webhook of a listed event would have been
// or, where its body can't be had, one with the record that the event speaks of.
func (c *comparison) listedTrigger(ctx context.Context, rec record) (*nats.Msg, error) {
	e := c.cfg.Source.Events
	if e.Resource != "" {
		return c.recordTrigger(ctx, rec)
	}
	whole := rec.body
	if !e.Get.IsZero() {
		path, err := e.Get.Fill(c.path, c.listedScope(rec))
		if err != nil {
			return nil, fault.Permanent(err)
		}
		answer, err := c.call(ctx, sourceapi.Request{Method: http.MethodGet, Path: path})
		if err != nil {
			return nil, err
		}
		whole = answer.Body
	}
	body, err := e.BodyIn(whole)
	if err != nil {
		return nil, err
	}
	if !c.cfg.Source.IDSigned() { // the id has the body's hash in it: providers send no space between tokens
		tight := jsontext.Value(body).Clone()
		if tight.Compact() == nil {
			body = tight
		}
	}
	ev := c.listedEvent(rec, body)
	m := nats.NewMsg(ev.RawSubject())
	m.Header, m.Data = ev.Header(), body
	m.Header.Set(jetstream.MsgIDHeader, c.listedID(ev))
	event.BeginTrace(ctx, "repair", m.Header)
	return m, nil
}

// listedID is the Nats-Msg-Id by which the ingress tells that a webhook repeats
// the event: its own where the signature covers its id.
func (c *comparison) listedID(e event.Event) string {
	if c.cfg.Source.IDSigned() {
		return e.MsgID()
	}
	return e.ListedMsgID()
}

// listedEvent are the attributes that the ingress would have given a listed
// event's webhook.
func (c *comparison) listedEvent(rec record, body []byte) event.Event {
	e := event.Event{
		ID: rec.id, DeliveryID: rec.id, Source: c.cfg.Key.Source, Account: c.cfg.Key.Account, Type: rec.typ,
		Origin: event.Reconcile, ContentType: "application/json", Time: rec.changed, ReceivedAt: c.deps.Now(),
	}
	if !c.cfg.Source.IDSigned() {
		e.ID = event.Unsigned(rec.id, sha256.Sum256(body))
	}
	if c.w.From.IsZero() {
		e.Origin = event.Backfill
	}
	return e
}

// recordTrigger gets the record that a listed event speaks of.
func (c *comparison) recordTrigger(ctx context.Context, rec record) (*nats.Msg, error) {
	e := c.cfg.Source.Events
	res := c.cfg.Source.Resources[e.Resource]
	id, err := e.RecordID.In(rec.body)
	if err != nil {
		return nil, fault.Permanent(err)
	}
	s := scope(c.cfg.Key.Account)
	s.Values["id"] = id
	ask, err := res.Get.Ask(s)
	if err != nil {
		return nil, fault.Permanent(err)
	}
	request := sourceapi.Request{Method: http.MethodGet, Path: ask.Path}
	if ask.Body != nil {
		request.Method, request.Body, request.GraphQL = http.MethodPost, ask.Body, true
	}
	answer, err := c.call(ctx, request)
	if err != nil {
		return nil, err
	}
	shown, err := res.Extract(answer.Body)
	if err == nil && shown == nil {
		err = field.ErrMissing // it is gone, of which its own list tells
	}
	if err != nil {
		return nil, err
	}
	got := record{body: shown, id: id, changed: rec.changed}
	if got.version, err = res.VersionOf(provider.Sight{Record: shown, At: answer.ObservedAt}); err != nil {
		return nil, fault.Permanent(fmt.Errorf("%s: %w", id, err))
	}
	ev := c.event(got, answer.ObservedAt)
	ev.ID, ev.Resource, ev.Type = reconciledID(e.Resource, got), e.Resource, e.Resource+".reconciled"
	ev.DeliveryID = rec.id // so that the event counts as stored
	m := nats.NewMsg(ev.RawSubject())
	m.Header, m.Data = ev.Header(), shown
	m.Header.Set(jetstream.MsgIDHeader, ev.MsgID()+":"+c.id+":"+event.Escape(rec.id))
	event.BeginTrace(ctx, "repair", m.Header)
	return m, nil
}

// listedScope is what paths of a listed event may refer to.
func (c *comparison) listedScope(rec record) field.Scope {
	s := scope(c.cfg.Key.Account)
	s.Docs = map[string][]byte{"record": rec.body}
	return s
}
