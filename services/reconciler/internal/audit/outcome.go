package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// open returns the triggers of the window that have no outcome, in order.
// collected says whether every dead letter had been made: as long as it is
// false, an open trigger may still get one.
func (a *Audit) open(ctx context.Context, name string, window []trigger) (open []trigger, collected bool, err error) {
	o := newOutcomes(window)
	if err := a.events(ctx, name, o, window[0].storedAt.Add(-skew)); err != nil {
		return nil, false, err
	}
	if open = o.open(); len(open) == 0 {
		return nil, true, nil
	}
	select {
	case <-time.After(grace):
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	// A provider's repeat that came after the dedup window is a trigger of its
	// own, but its event may have been absorbed as the repeat of an older one.
	oldest := open[0].storedAt.Add(-skew - a.cfg.Streams.DedupWindow)
	if err := a.events(ctx, name, o, oldest); err != nil {
		return nil, false, err
	}
	// The collector is asked first: letters that it had made are then seen.
	if collected, err = a.collected(ctx); err != nil {
		return nil, false, err
	}
	since := deadletter.Filter{Stage: topology.StageEnrich, Source: name, Since: open[0].storedAt.Add(-skew)}
	for l, err := range deadletter.List(ctx, a.js, since) {
		if err != nil {
			return nil, false, err
		}
		if l.Stream == topology.StreamRaw {
			o.dead(l)
		}
	}
	return o.open(), collected, nil
}

// events notes the triggers that are answered by the source's events stored
// since, and those that were dropped on purpose.
func (a *Audit) events(ctx context.Context, name string, o *outcomes, since time.Time) error {
	for _, in := range [...]struct{ stream, prefix string }{
		{topology.StreamEnriched, event.PrefixEnriched}, {topology.StreamRaw, event.PrefixDropped},
	} {
		if o.left == 0 {
			return nil
		}
		for m, err := range consume.Scan(ctx, a.js, consume.ScanOptions{
			Stream: in.stream, Subjects: []string{in.prefix + "." + name + ".>"}, HeadersOnly: true, FromTime: since,
		}) {
			if err != nil {
				return err
			}
			o.answered(sequenceOf(m), m.Header.Get(event.HeaderID), m.Header.Get(jetstream.MsgIDHeader))
			if o.left == 0 {
				return nil
			}
		}
	}
	return nil
}

// collected reports whether the collector has answered every advisory.
func (a *Audit) collected(ctx context.Context) (bool, error) {
	cons, err := a.js.Consumer(ctx, topology.StreamAdvisories, topology.CollectConsumer(topology.Delivery{}).Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil // it has never run
	}
	if err != nil {
		return false, fmt.Errorf("collector's consumer: %w", err)
	}
	info := cons.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}

// sequenceOf returns the trigger sequence that a message names, or 0.
func sequenceOf(m consume.Message) uint64 {
	n, err := strconv.ParseUint(m.Header.Get(event.HeaderTriggerSequence), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// outcomes tells which triggers of a window have one.
type outcomes struct {
	window []trigger
	has    []bool
	left   int // how many have none

	byFirst map[uint64][]int // indices into window by the first trigger's sequence
	byOwn   map[uint64]int
	byMsgID map[string][]int
}

func newOutcomes(window []trigger) *outcomes {
	o := &outcomes{
		window: window, has: make([]bool, len(window)), left: len(window),
		byFirst: make(map[uint64][]int, len(window)), byOwn: make(map[uint64]int, len(window)),
		byMsgID: make(map[string][]int, len(window)),
	}
	for i, t := range window {
		o.byFirst[t.first] = append(o.byFirst[t.first], i)
		o.byOwn[t.sequence] = i
		if t.msgID != "" {
			o.byMsgID[t.msgID] = append(o.byMsgID[t.msgID], i)
		}
	}
	return o
}

func (o *outcomes) mark(i int) {
	if !o.has[i] {
		o.has[i] = true
		o.left--
	}
}

// answered notes an event. It answers the trigger of the sequence that it names,
// and those that were published under its msgID or what that begins with: behind a
// colon Tercel puts a record's id, or the mark of a replay. Each must have the
// event's id too, since in a stream that lost its tail sequences come twice, and
// providers put colons into ids of their own.
func (o *outcomes) answered(sequence uint64, id, msgID string) {
	o.markOf(id, o.byFirst[sequence])
	for msgID != "" {
		o.markOf(id, o.byMsgID[msgID])
		msgID = msgID[:max(strings.LastIndexByte(msgID, ':'), 0)]
	}
}

// markOf marks those triggers that an event with the id can be of. An event of one
// record of several has the record's id behind the trigger's.
func (o *outcomes) markOf(id string, indices []int) {
	for _, i := range indices {
		if rest, ok := strings.CutPrefix(id, o.window[i].id); ok && (rest == "" || rest[0] == '#') {
			o.mark(i)
		}
	}
}

// dead notes a dead letter of a trigger.
func (o *outcomes) dead(l deadletter.Letter) {
	i, ok := o.byOwn[l.OriginalSequence]
	if ok && (l.PayloadMissing || l.Header.Get(event.HeaderID) == o.window[i].id) {
		o.mark(i)
	}
}

func (o *outcomes) open() []trigger {
	var open []trigger
	for i, t := range o.window {
		if !o.has[i] {
			open = append(open, t)
		}
	}
	return open
}
