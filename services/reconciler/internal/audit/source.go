package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// trigger is one stored trigger as the audit sees it.
type trigger struct {
	sequence uint64
	// first is the sequence of the trigger that this one repeats, or its own.
	first    uint64
	storedAt time.Time
	id       string // the event's, as its header spells it
	msgID    string
}

// source makes a pass over one source's triggers. How far its consumer has
// come is asked before anything else: what was acknowledged by then has its
// outcome already (promise 5), however the pass takes its time.
func (a *Audit) source(ctx context.Context, name string, p *progress, f *findings, res *Result) error {
	cons, err := a.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(name))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil // its enricher has never run: all of it is still pending
	}
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	info := cons.CachedInfo()
	res.Pending += info.NumPending
	window, more, err := a.window(ctx, name, p.Sources[name], info)
	if err != nil || len(window) == 0 {
		return err
	}
	open, collected, err := a.open(ctx, name, window)
	if err != nil {
		return err
	}
	open = slices.DeleteFunc(open, func(t trigger) bool { return a.untold(t, p, info) })
	var lost []trigger
	if collected { // else their dead letters may still be on the way
		lost = a.lost(open, info)
	}
	recovered, err := a.recover(ctx, name, lost)
	res.Recovered += recovered
	if recovered > 0 {
		f.add(report.Finding{
			Kind: report.TriggersLost, Name: name, Count: recovered, Repaired: true,
			Detail: fmt.Sprintf("triggers from %d on were accepted and had no outcome; they are sent again", lost[0].sequence),
		}, fmt.Sprint(lost[0].sequence, recovered))
	}
	if err != nil {
		return err
	}
	done := window
	if kept := open[len(lost):]; len(kept) > 0 {
		// Nothing behind a trigger that may be in work counts as done, so that
		// the position says all.
		first := kept[0].sequence
		done = window[:slices.IndexFunc(window, func(t trigger) bool { return t.sequence == first })]
	}
	res.Audited += len(done)
	res.Pending += uint64(len(window) - len(done))
	res.More = res.More || more && len(done) == len(window)
	if len(done) > 0 {
		p.Sources[name] = done[len(done)-1].sequence
	}
	return nil
}

// untold reports whether nothing can be said of a trigger without an outcome: its
// outcome may have left its stream by age, or been purged after it was delivered.
func (a *Audit) untold(t trigger, p *progress, info *jetstream.ConsumerInfo) bool {
	age := a.cfg.Streams.Enriched.MaxAge
	return t.storedAt.Before(p.Again) || age > 0 && now(info).Sub(t.storedAt) > age-slackAge
}

// window reads the triggers behind from that the consumer has had and that
// are not too new, up to the bound of a pass. more says that it was reached.
func (a *Audit) window(ctx context.Context, name string, from uint64, info *jetstream.ConsumerInfo) (w []trigger, more bool, err error) {
	newest := now(info).Add(-minAge)
	for m, err := range consume.Scan(ctx, a.js, consume.ScanOptions{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + name + ".>"},
		HeadersOnly: true, FromSequence: from + 1,
	}) {
		if err != nil {
			return nil, false, err
		}
		if m.Sequence > info.Delivered.Stream || m.StoredAt.After(newest) {
			break
		}
		if len(w) == a.bound {
			return w, true, nil
		}
		first := sequenceOf(m)
		if first == 0 {
			first = m.Sequence
		}
		w = append(w, trigger{
			sequence: m.Sequence, first: first, storedAt: m.StoredAt,
			id: m.Header.Get(event.HeaderID), msgID: m.Header.Get(jetstream.MsgIDHeader),
		})
	}
	return w, false, nil
}

// now is the server's clock, which stamps the messages too.
func now(info *jetstream.ConsumerInfo) time.Time {
	if info.TimeStamp.IsZero() {
		return time.Now()
	}
	return info.TimeStamp
}

// lost returns those of the open triggers that will have no outcome any more,
// up to the first that may be in work.
//
// A consumer that has nothing in hand is through with all it has had, and any
// consumer is through with what is below its ack floor. Above it, only numbers
// tell: a consumer holds no more than NumAckPending, so when more triggers than
// that have no outcome, some are lost. Which ones can't be told; all that are
// older than Settle are taken for lost, since one too many does no harm
// (promise 4).
func (a *Audit) lost(open []trigger, info *jetstream.ConsumerInfo) []trigger {
	idle := info.NumPending == 0 && info.NumAckPending == 0
	above := 0
	for _, t := range open {
		if t.sequence > info.AckFloor.Stream {
			above++
		}
	}
	settled := now(info).Add(-a.cfg.Settle)
	for i, t := range open {
		through := idle || t.sequence <= info.AckFloor.Stream
		overdue := above > info.NumAckPending && t.storedAt.Before(settled)
		if !through && !overdue {
			return open[:i]
		}
	}
	return open
}
