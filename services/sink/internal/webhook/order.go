package webhook

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// lost is how long after it was due an event is waited for. One that doesn't
// come is no longer in the stream, or another sink has it.
const lost = 10 * time.Minute

// line are the events of one record that failed or were held back, by their
// sequence, each with when it is due. Those behind the first wait for it.
type line map[uint64]time.Time

// forgetLost forgets the events that are waited for no longer.
func forgetLost[K comparable](l map[K]time.Time) {
	maps.DeleteFunc(l, func(_ K, due time.Time) bool { return time.Since(due) > lost })
}

// lanes are the places of items that are sent one after another.
func (r *Receiver) lanes(items []delivery.Item) [][]int {
	lanes := make([][]int, 0, len(items))
	byRecord := map[string]int{}
	for i, it := range items {
		record, ok := r.record(it)
		if lane, there := byRecord[record]; ok && there {
			lanes[lane] = append(lanes[lane], i)
			continue
		}
		if ok {
			byRecord[record] = len(lanes)
		}
		lanes = append(lanes, []int{i})
	}
	for _, lane := range lanes {
		slices.SortStableFunc(lane, func(a, b int) int { return cmp.Compare(items[a].Sequence, items[b].Sequence) })
	}
	return lanes
}

// record is what keeps events in order, or false where nothing does.
func (r *Receiver) record(it delivery.Item) (string, bool) {
	e := it.Event
	if r.cfg.Order != pipeline.OrderRecord || e.Resource == "" {
		return "", false
	}
	return strings.Join([]string{e.Source, event.Escape(e.Account), e.Resource, e.RecordID}, "\x00"), true
}

// sweep forgets, now and then, what nothing comes to ask for: the events that
// other sinks were given when they came again.
func (r *Receiver) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.swept) < lost {
		return
	}
	r.swept = time.Now()
	forgetLost(r.done)
	maps.DeleteFunc(r.waiting, func(_ string, l line) bool {
		forgetLost(l)
		return len(l) == 0
	})
}

// queued returns an error while an earlier event of the same record waits for
// its next try. The caller holds mu.
func (r *Receiver) queued(it delivery.Item) error {
	record, ok := r.record(it)
	if !ok {
		return nil
	}
	first, waiting := it.Sequence, r.waiting[record]
	forgetLost(waiting)
	for sequence := range waiting {
		first = min(first, sequence)
	}
	if first == it.Sequence {
		return nil
	}
	delay := max(time.Until(waiting[first]), 0) + r.retry.RetryMin
	return fault.Queue(fmt.Errorf("not sent: event %d of the same record waits for its next try", first), delay)
}

// lineUp returns the error of an event that was not taken. If it will be tried
// again, it is due at a time that is known here, and lines up for it. The caller
// holds mu.
func (r *Receiver) lineUp(it delivery.Item, err error) error {
	record, ok := r.record(it)
	if !ok {
		return err
	}
	if err == nil || fault.IsPermanent(err) || !fault.IsPostponed(err) && it.Attempt >= r.retry.MaxAttempts {
		if delete(r.waiting[record], it.Sequence); len(r.waiting[record]) == 0 {
			delete(r.waiting, record)
		}
		return err
	}
	delay, marked := fault.Delay(err)
	if !marked {
		delay = r.retry.RetryMin
		for range min(it.Attempt-1, 30) {
			delay = min(2*delay, r.retry.RetryMax)
		}
		err = fault.RetryAfter(err, delay)
	}
	if r.waiting[record] == nil {
		r.waiting[record] = line{}
	}
	r.waiting[record][it.Sequence] = time.Now().Add(delay)
	return err
}
