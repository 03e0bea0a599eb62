package run

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// maxStored bounds the triggers that are kept in memory by their hashes, to 64 MB.
const maxStored = 4_000_000

// stored tells which events have a trigger, by the provider's id of the
// delivery. It keeps a hash of 64 bits of each: among four million it takes a
// missed event for a stored one with odds of 1 to 4,000,000,000,000.
//
// Where there are more triggers than may be kept, it keeps those whose time is near
// the events in hand, and a filter of all. What is in neither was missed; what is
// in the filter alone is looked for in the stream (promise 6).
type stored struct {
	seed    maphash.Seed
	most    int
	ids     map[uint64]struct{}
	through uint64 // the last sequence of TERCEL_RAW that was read
	total   int    // triggers that were read

	filter   *filter       // nil while ids are all
	from, to time.Time     // which ids are kept, if they are not all
	span     time.Duration // how far that reaches beyond a page's events
	full     bool          // not even all of those
}

func (s *stored) hash(id string) uint64 { return maphash.String(s.seed, id) }

// add takes a trigger in whose event is of about the given time.
func (s *stored) add(id string, at time.Time) {
	h := s.hash(id)
	s.total++
	if _, there := s.ids[h]; !there && s.filter == nil && len(s.ids) >= s.most {
		s.filter = newFilter(s.most)
		for known := range s.ids {
			s.filter.add(known)
		}
		s.ids = map[uint64]struct{}{}
	}
	if s.filter != nil {
		s.filter.add(h) // also what is kept already, which is only until the next page
	}
	s.keep(h, at)
}

func (s *stored) keep(h uint64, at time.Time) {
	switch {
	case s.filter != nil && (at.Before(s.from) || at.After(s.to)):
	case len(s.ids) < s.most:
		s.ids[h] = struct{}{}
	default:
		s.full = true
	}
}

func (s *stored) has(id string) bool {
	_, ok := s.ids[s.hash(id)]
	return ok
}

// perhaps reports whether an event that is not among the ids may have a trigger.
func (s *stored) perhaps(id string) bool {
	return s.filter != nil && !s.has(id) && s.filter.has(s.hash(id))
}

// readStored reads the headers of all triggers that can be of events in the
// window: those that were stored since it began. An index of what was stored
// would be read faster, but one that a crash can leave without its last entries
// proves no gap.
func (r *Run) readStored(ctx context.Context) (*stored, error) {
	s := &stored{seed: maphash.MakeSeed(), most: cmp.Or(r.mostStored, maxStored), ids: map[uint64]struct{}{}}
	end, err := r.end(ctx) // up to there all will have been read, also if nothing has come since the window began
	if err != nil {
		return nil, err
	}
	through, err := r.eachStored(ctx, s.add)
	s.through = max(end, through)
	return s, err
}

// minSpan is how far around a page's events their triggers are kept at least, as
// far as there is room.
const minSpan = time.Minute

// near has the ids of the triggers around the time of some events kept. Which these
// are is a matter of speed alone.
func (c *comparison) near(ctx context.Context, events []record) error {
	s := c.stored
	if s.filter == nil {
		return nil
	}
	first, last := events[0].changed, events[0].changed
	for _, rec := range events {
		if rec.changed.Before(first) {
			first = rec.changed
		}
		if rec.changed.After(last) {
			last = rec.changed
		}
	}
	if !first.Before(s.from) && !last.After(s.to) {
		return nil
	}
	if s.span == 0 {
		s.span = c.w.To.Sub(c.w.From) / time.Duration(1+s.total/s.most) / 2
	}
	for {
		s.from, s.to = first.Add(-s.span), last.Add(s.span)
		s.ids, s.full = map[uint64]struct{}{}, false
		// What has come since is in the filter only once it was read on to.
		if _, err := c.eachStored(ctx, func(id string, at time.Time) { s.keep(s.hash(id), at) }); err != nil {
			return err
		}
		if !s.full || s.span <= minSpan {
			return nil
		}
		s.span = max(s.span/2, minSpan)
	}
}

// search looks in the stream for the triggers of events that may have one, and has
// those that do kept.
func (c *comparison) search(ctx context.Context, events []record) error {
	wanted := map[uint64]bool{}
	for _, rec := range events {
		if c.stored.perhaps(rec.id) {
			wanted[c.stored.hash(rec.id)] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	_, err := c.eachStored(ctx, func(id string, _ time.Time) {
		if h := c.stored.hash(id); wanted[h] {
			c.stored.ids[h] = struct{}{}
		}
	})
	return err
}

// eachStored reads what has been stored since the window began, and returns the last
// sequence of TERCEL_RAW that it has read.
func (r *Run) eachStored(ctx context.Context, take func(id string, at time.Time)) (through uint64, err error) {
	from := r.w.From
	if !from.IsZero() {
		from = from.Add(-skew)
	}
	through, err = r.readIDs(ctx, consume.ScanOptions{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + r.subjects()}, FromTime: from,
	}, take)
	if err != nil {
		return through, err
	}
	lost, err := r.lostHead(ctx, from)
	if err != nil || !lost {
		return through, err
	}
	// What was purged from the one stream may have gone through to the other.
	_, err = r.readIDs(ctx, consume.ScanOptions{
		Stream: topology.StreamEnriched, Subjects: []string{event.PrefixEnriched + "." + r.subjects()}, FromTime: from,
	}, take)
	return through, err
}

// subjects are those of the account's events, behind a stream's prefix.
func (r *Runner) subjects() string {
	return r.cfg.Key.Source + "." + event.AccountToken(r.cfg.Key.Account) + ".>"
}

// readOn reads what has come since the last time.
func (r *Run) readOn(ctx context.Context, s *stored) error {
	through, err := r.readIDs(ctx, consume.ScanOptions{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + r.subjects()}, FromSequence: s.through + 1,
	}, s.add)
	s.through = max(s.through, through)
	return err
}

// readIDs takes the ids of triggers, and when their events happened or, where they
// don't say so, when they were stored. It returns the last sequence of all.
func (r *Run) readIDs(ctx context.Context, o consume.ScanOptions, take func(id string, at time.Time)) (through uint64, err error) {
	o.HeadersOnly = true
	for m, err := range consume.Scan(ctx, r.deps.JetStream, o) {
		if err != nil {
			return through, err
		}
		if id := event.DeliveryIDOf(m.Header); id != "" {
			at := m.StoredAt
			if t, err := time.Parse(time.RFC3339Nano, m.Header.Get(event.HeaderTime)); err == nil {
				at = t
			}
			take(id, at)
		}
		through = m.Sequence
	}
	return through, nil
}

// lostHead reports whether TERCEL_RAW no longer has all that was stored since.
func (r *Run) lostHead(ctx context.Context, since time.Time) (bool, error) {
	stream, err := r.deps.JetStream.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", topology.StreamRaw, err)
	}
	state := stream.CachedInfo().State
	return state.FirstSeq > 1 && (state.Msgs == 0 || state.FirstTime.After(since)), nil
}
