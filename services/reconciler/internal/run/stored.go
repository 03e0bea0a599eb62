package run

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// maxStored bounds the triggers of one window that are kept in memory, to 64 MB.
const maxStored = 4_000_000

// stored tells which events have a trigger, by the provider's id of the
// delivery. It keeps a hash of 64 bits of each: among all four million it takes
// a missed event for a stored one with odds of 1 to 4,000,000,000,000.
type stored struct {
	seed    maphash.Seed
	ids     map[uint64]struct{}
	through uint64 // the last sequence of TERCEL_RAW that was read
}

func (s *stored) add(id string) { s.ids[maphash.String(s.seed, id)] = struct{}{} }

func (s *stored) has(id string) bool {
	_, ok := s.ids[maphash.String(s.seed, id)]
	return ok
}

// readStored reads the headers of all triggers that can be of events in the
// window: those that were stored since it began. An index of what was stored
// would be read faster, but one that a crash can leave without its last entries
// proves no gap.
func (r *Run) readStored(ctx context.Context) (*stored, error) {
	s := &stored{seed: maphash.MakeSeed(), ids: map[uint64]struct{}{}}
	from := r.w.From
	if !from.IsZero() {
		from = from.Add(-skew)
	}
	if err := r.readIDs(ctx, s, consume.ScanOptions{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + r.subjects()}, FromTime: from,
	}); err != nil {
		return nil, err
	}
	lost, err := r.lostHead(ctx, from)
	if err != nil || !lost {
		return s, err
	}
	// What was purged from the one stream may have gone through to the other.
	return s, r.readIDs(ctx, s, consume.ScanOptions{
		Stream: topology.StreamEnriched, Subjects: []string{event.PrefixEnriched + "." + r.subjects()}, FromTime: from,
	})
}

// subjects are those of the account's events, behind a stream's prefix.
func (r *Runner) subjects() string {
	return r.cfg.Key.Source + "." + event.AccountToken(r.cfg.Key.Account) + ".>"
}

// readOn reads what has come since the last time.
func (r *Run) readOn(ctx context.Context, s *stored) error {
	return r.readIDs(ctx, s, consume.ScanOptions{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + r.subjects()}, FromSequence: s.through + 1,
	})
}

func (r *Run) readIDs(ctx context.Context, s *stored, o consume.ScanOptions) error {
	o.HeadersOnly = true
	for m, err := range consume.Scan(ctx, r.deps.JetStream, o) {
		if err != nil {
			return err
		}
		if id := event.DeliveryIDOf(m.Header); id != "" {
			s.add(id)
		}
		if o.Stream == topology.StreamRaw {
			s.through = m.Sequence
		}
		if len(s.ids) > maxStored {
			return fault.Permanent(fmt.Errorf("more than %d triggers in the window: events that are reconciled more often have fewer (events.every, events.overlap)", maxStored))
		}
	}
	return nil
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
