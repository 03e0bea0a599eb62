package run

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/provider"
)

// CanList says why the resource can't be backfilled as asked, and what to ask
// for instead, or nil.
func (r *Runner) CanList(b cursor.Backfill, ranged bool) error {
	name := b.Source + " " + b.Resource
	if ranged && r.list.Since.Param == "" && r.list.Until.Param == "" {
		return fmt.Errorf("%s: its list can't be filtered by time (reconcile.since): ask for all of it, without a range", name)
	}
	if !b.From.IsZero() && r.list.Since.Param == "" {
		return fmt.Errorf("%s: its list has no filter for the begin of a time (reconcile.since): ask without one", name)
	}
	if b.Slices > 1 && !r.sliceable() {
		return fmt.Errorf("%s: its list can't be cut by time, for which it needs reconcile.since, and reconcile.until or order: ascending: ask for 1 slice", name)
	}
	return nil
}

// Settled is up to when the resource's changes can be expected to have been told
// by webhooks.
func (r *Runner) Settled() time.Time { return r.deps.Now().Add(-r.list.Settle) }

// sliceable reports whether a part of the time can be listed without the rest.
func (r *Runner) sliceable() bool {
	if r.cfg.Source != nil {
		return false // a list of events is short, and what it is compared with takes memory
	}
	until := r.list.Until.Param != "" || strings.Contains(r.list.Since.Text, "{until}")
	return r.list.Since.Param != "" && (until || r.list.Order == provider.Ascending)
}

// plan cuts the stretch's time into slices, if that was not done before.
func (s *stretch) plan(ctx context.Context) error {
	if len(s.st.Slices) > 0 {
		return nil
	}
	st := s.st
	if st.Run == "" {
		st.Run, st.StartedAt = nuid.Next(), s.deps.Now()
	}
	st.From, st.To = s.job.From, s.job.To
	if st.From.IsZero() && s.list.Slice.Every > 0 { // the API wants a begin
		st.From = s.job.To.Add(-s.list.Start)
	}
	s.st = st // a failure to find the oldest record is the run's
	begin := st.From
	if begin.IsZero() && s.list.Order == provider.Ascending {
		var err error
		if begin, err = s.oldest(ctx, st.To); err != nil {
			return err
		}
		st.Oldest = begin
	}
	st.Slices = s.cut(st, begin)
	return s.put(ctx, st)
}

// oldest is when the first record of the list changed, or zero if that can't be
// told.
func (s *stretch) oldest(ctx context.Context, to time.Time) (time.Time, error) {
	w := cursor.Window{To: to}
	p, err := s.fetch(ctx, w, "")
	if err != nil {
		return time.Time{}, fmt.Errorf("list %s: the oldest records: %w", s.cfg.Key, err)
	}
	c := comparison{Run: s.run(s.st, w)}
	for _, body := range p.Records {
		if rec, err := c.read(body, p.requestedAt); err == nil && !rec.changed.IsZero() {
			return rec.changed, nil
		}
	}
	return time.Time{}, nil
}

// cut returns the slices of a stretch whose records begin at begin.
func (s *stretch) cut(st cursor.Stretch, begin time.Time) []cursor.Window {
	n := 1
	granule := max(s.list.Since.Format.Granule(), s.list.Until.Format.Granule())
	if s.sliceable() && !begin.IsZero() && st.To.After(begin) {
		n = max(1, min(s.job.Slices, int(st.To.Sub(begin)/granule)))
	}
	each := st.To.Sub(begin) / time.Duration(n)
	var all []cursor.Window
	for i, from := 0, st.From; i < n; i++ {
		w := cursor.Window{From: from, To: begin.Add(time.Duration(i+1) * each).Truncate(granule)}
		if i == n-1 {
			w.To = st.To
		}
		from = w.To
		all = append(all, w)
	}
	return all
}

// maxBorder bounds the records that a slice keeps in mind because they lie at its
// ends.
const maxBorder = 256

// marked is which slice has compared which records at the ends of slices.
type marked struct {
	mu sync.Mutex
	by map[uint64]int
}

func markedBy(all []cursor.Window) *marked {
	m := &marked{by: map[uint64]int{}}
	for i, w := range all {
		for _, mark := range w.Border {
			m.by[mark] = i
		}
	}
	return m
}

// borders are those between a slice and the ones beside it. The source may show
// a record at a border in both, or in the one that its time doesn't speak for:
// APIs filter by finer times than they write. So whichever slice is shown such a
// record first compares it (promise 6), and counts it alone.
type borders struct {
	*marked
	slice        int
	below, above bool // there is another slice
}

// elsewhere reports whether another slice compares a record.
func (b *borders) elsewhere(c *comparison, rec record, next *cursor.Window) bool {
	if b == nil || rec.changed.IsZero() {
		return false
	}
	if b.above && c.young(rec) {
		return true
	}
	at := b.below && !rec.changed.After(c.w.From) || b.above && !rec.changed.Before(c.w.To)
	mark := rec.mark()
	b.mu.Lock()
	defer b.mu.Unlock()
	owner, known := b.by[mark]
	switch {
	case known:
		return owner != b.slice
	case at && len(next.Border) < maxBorder:
		b.by[mark] = b.slice
		next.Border = append(next.Border[:len(next.Border):len(next.Border)], mark)
	}
	return false
}

// share is about how much of a slice is done, or 0 if nothing tells: the source
// itself, by the number of records, or the time of the last record.
func (c *comparison) share(w cursor.Window, oldest time.Time) float64 {
	if w.Done {
		return 1
	}
	from, states := w.From, max(1, len(c.list.States.Values))
	if from.IsZero() {
		from = oldest
	}
	part, over := 0.0, w.To.Sub(from)
	timed := !from.IsZero() && over > 0
	switch {
	case c.list.Slice.Every > 0 && w.Slice != nil && timed:
		part = float64(w.Slice.From.Sub(from)) / float64(over)
	case c.total > 0 && states == 1:
		part = float64(w.Counts.Listed) / float64(c.total)
	case !timed || c.reached.IsZero():
	case c.list.Order == provider.Ascending:
		part = float64(c.reached.Sub(from)) / float64(over)
	case c.list.Order == provider.Descending:
		part = float64(w.To.Sub(c.reached)) / float64(over)
	}
	return (float64(w.State) + min(max(part, 0), .999)) / float64(states)
}

// viewAge is how old a view of the ledger may be: what webhooks bring meanwhile
// is not missing.
const viewAge = 5 * time.Second

// view is a ledger that slices share.
type view struct {
	now func() time.Time

	mu     sync.RWMutex // guards what follows
	ledger *ledger.Ledger
	at     time.Time // when it last caught up
}

func (s *stretch) openView(ctx context.Context) (*view, error) {
	l, err := ledger.OpenView(ctx, s.deps.JetStream, s.cfg.Key.Source, s.cfg.Key.Account, s.cfg.Key.Resource)
	if err != nil {
		return nil, err
	}
	v := &view{now: s.deps.Now, ledger: l}
	return v, v.refresh(ctx)
}

// refresh catches up, if that is long ago.
func (v *view) refresh(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if age := now.Sub(v.at); age >= 0 && age < viewAge {
		return nil
	}
	if _, err := v.ledger.CatchUp(ctx); err != nil {
		return err
	}
	v.at = now
	return nil
}

// Lookup compares a listed record with what was seen of it.
func (v *view) Lookup(id string, listed event.Version) ledger.Verdict {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ledger.Lookup(id, listed)
}

// Outlasts reports whether what was seen of a record after a time is not to be judged
// by a list that may lag behind.
func (v *view) Outlasts(id string, listed event.Version, after time.Time) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ledger.Outlasts(id, listed, after)
}

// Held returns the version in which a record was seen alive.
func (v *view) Held(id string) (version uint64, held bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ledger.Held(id)
}
