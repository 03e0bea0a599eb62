package cursor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
)

// ErrNoBackfill is returned for a backfill that doesn't exist (any more).
var ErrNoBackfill = errors.New("no such backfill")

// ErrBackfillOver is returned for a change that comes too late: the backfill has
// ended or was cancelled.
var ErrBackfillOver = errors.New("the backfill is over")

// pauseTries bounds how often a pause gives way to another change.
const pauseTries = 5

// BackfillState is what is wanted of a backfill.
type BackfillState string

// The states, a closed set. A backfill that was cancelled is given up by its
// runner a moment later, see [Backfill.EndedAt].
const (
	Running   BackfillState = "running"
	Paused    BackfillState = "paused"
	Cancelled BackfillState = "cancelled"
	Ended     BackfillState = "ended"
)

// Backfill is a comparison of the records of a time that somebody asked for, in
// one account or several. It has no part in the cursors of its resource: what
// is complete is still said by those alone.
type Backfill struct {
	ID       string `json:"id"`
	Source   string `json:"source"`
	Resource string `json:"resource"`
	// Account is the only one, or "" for all that the source has.
	Account string `json:"account,omitzero"`
	// Accounts is how many there were when it began.
	Accounts int `json:"accounts"`
	// From and To are the ends of the time; a zero From is the beginning.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
	// Slices is how many parts of the time are listed at once in each account.
	Slices int `json:"slices"`
	// Rate is how many records a second are compared at most, in all accounts
	// together.
	Rate int `json:"rate"`
	// DryRun says that nothing is repaired.
	DryRun bool          `json:"dry_run,omitzero"`
	State  BackfillState `json:"state"`
	// StartedAt is when it was asked for, ChangedAt when its state last changed.
	StartedAt time.Time `json:"started_at"`
	ChangedAt time.Time `json:"changed_at"`
	// EndedAt is when the last report was out, or zero.
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Attempt counts how often it was resumed after its end.
	Attempt int `json:"attempt,omitzero"`
	// Rested is how long it was paused or at an end before it was resumed, in
	// seconds.
	Rested float64 `json:"rested_seconds,omitzero"`

	revision uint64
}

// Key is what the backfill does in an account.
func (b Backfill) Key(account string) Key {
	return Key{Source: b.Source, Account: account, Resource: b.Resource}
}

// BackfillLease is the name of the lease under which a backfill is worked on.
func BackfillLease(id string) string { return "backfill." + id }

// Active reports whether there is still something to do.
func (b Backfill) Active() bool { return b.EndedAt.IsZero() }

// Overlaps reports whether both list the records of some account in some time.
func (b Backfill) Overlaps(o Backfill) bool {
	return b.Source == o.Source && b.Resource == o.Resource &&
		(b.Account == "" || o.Account == "" || b.Account == o.Account) &&
		b.From.Before(o.To) && o.From.Before(b.To)
}

// Stretch is a backfill's way in one account.
type Stretch struct {
	Account string `json:"account"`
	// Run is the id that its report has; Continues the one of the report before
	// it, where the backfill was resumed after its end.
	Run       string `json:"run"`
	Continues string `json:"continues,omitzero"`
	// From and To are the ends of the time that is listed.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
	// Oldest is the time of the first record, where From is zero and the list
	// begins with the oldest.
	Oldest time.Time `json:"oldest,omitzero"`
	// Slices are the parts of that time, each with its own position.
	Slices []Window `json:"slices"`
	// StartedAt is when it began.
	StartedAt time.Time `json:"started_at"`
	// UpdatedAt is when it was last saved.
	UpdatedAt time.Time `json:"updated_at"`
	// EndedAt is when its report was published, or zero.
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Complete says that it ended with every record compared, and every gap sent
	// again or, in a dry run, found.
	Complete bool `json:"complete,omitzero"`
	// Error is why it ended early, or waits until RetryAt.
	Error   string    `json:"error,omitzero"`
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Report is one that is still to be published: by whoever could save it here,
	// and nobody else.
	Report *report.Report `json:"report,omitempty"`
	// Failures counts those in a row without a page between them.
	Failures int `json:"failures,omitzero"`
	// Restarted says that slices were begun again by themselves, because the
	// source no longer knew their page.
	Restarted bool `json:"restarted,omitzero"`
	// Attempt is the backfill's that it belongs to.
	Attempt int `json:"attempt,omitzero"`
	// RepairedBefore were repaired in slices that have been begun again since,
	// and stand in an earlier report.
	RepairedBefore int `json:"repaired_before,omitzero"`

	revision uint64
}

// Total sums up the slices.
func (s Stretch) Total() Window {
	t := Window{Run: s.Run, Continues: s.Continues, From: s.From, To: s.To, Done: len(s.Slices) > 0}
	share := 0.0
	for _, w := range s.Slices {
		t.Done = t.Done && w.Done
		t.Behind = t.Behind || w.Behind
		t.Pages += w.Pages
		t.Counts = t.Counts.Plus(w.Counts)
		t.Sets.Listed.Join(w.Sets.Listed)
		t.Sets.Held.Join(w.Sets.Held)
		for name, d := range w.Destinations {
			if t.Destinations == nil {
				t.Destinations = map[string]report.Destination{}
			}
			t.Destinations[name] = t.Destinations[name].Plus(d)
		}
		for cause, n := range w.Causes {
			if t.Causes == nil {
				t.Causes = map[report.Cause]int{}
			}
			t.Causes[cause] += n
		}
		t.Records = append(t.Records, w.Records...)
		if share += w.Share; w.Done {
			share += 1 - w.Share
		}
	}
	t.Records = t.Records[:min(len(t.Records), report.MaxRecords)]
	if n := len(s.Slices); n > 0 {
		t.To = s.Slices[n-1].To
		for i, w := range s.Slices[:n-1] { // one whose source has a slow clock ends before the next begins
			if w.To.Before(s.Slices[i+1].From) {
				t.To = w.To
				break
			}
		}
		t.Share = share / float64(n)
	}
	return t
}

// Backfills keeps what there is to backfill, and how far that has come, beside
// the cursors. It is safe for concurrent use.
type Backfills struct{ bucket }

// OpenBackfills returns the store of a server.
func OpenBackfills(ctx context.Context, js jetstream.JetStream) (*Backfills, error) {
	s, err := Open(ctx, js)
	if err != nil {
		return nil, err
	}
	return &Backfills{s.bucket}, nil
}

// backfillPrefix begins the keys. No source's name begins so.
const backfillPrefix = "_backfill."

func stretchKey(id, account string) string {
	return backfillPrefix + id + "." + strings.ReplaceAll(event.AccountToken(account), "%", "=")
}

// List returns all backfills, those begun first in front.
func (s *Backfills) List(ctx context.Context) ([]Backfill, error) {
	entries, err := s.entries(ctx, backfillPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("list backfills: %w", err)
	}
	var all []Backfill
	for _, e := range entries {
		if b, err := decodeBackfill(e); err == nil { // else it is something else's
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Backfill) int { return a.StartedAt.Compare(b.StartedAt) })
	return all, nil
}

// Load returns a backfill, or [ErrNoBackfill].
func (s *Backfills) Load(ctx context.Context, id string) (Backfill, error) {
	e, err := s.kv.Get(ctx, backfillPrefix+id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrInvalidKey):
		return Backfill{}, fmt.Errorf("%w: %s", ErrNoBackfill, id)
	case err != nil:
		return Backfill{}, fmt.Errorf("load backfill %s: %w", id, err)
	}
	return decodeBackfill(e)
}

func decodeBackfill(e jetstream.KeyValueEntry) (Backfill, error) {
	var b Backfill
	if err := json.Unmarshal(e.Value(), &b); err != nil || b.ID == "" {
		return Backfill{}, fmt.Errorf("%s: not written by a reconciler; delete it", e.Key())
	}
	b.revision = e.Revision()
	return b, nil
}

// Save stores a backfill that is new or was loaded, and returns it as it is
// stored now. It returns [ErrConflict] if somebody else has changed it.
func (s *Backfills) Save(ctx context.Context, b Backfill) (Backfill, error) {
	var err error
	if b.revision, err = s.put(ctx, backfillPrefix+b.ID, b, b.revision); err != nil {
		return Backfill{}, fmt.Errorf("save backfill %s: %w", b.ID, err)
	}
	return b, nil
}

// Pause says that a backfill shall stop at its last saved pages. Whoever works on
// it, now or later, heeds that; nobody has to run. It returns [ErrNoBackfill] or
// [ErrBackfillOver].
func (s *Backfills) Pause(ctx context.Context, id string, now time.Time) (Backfill, error) {
	for range pauseTries {
		b, err := s.Load(ctx, id)
		switch {
		case err != nil || b.State == Paused:
			return b, err
		case b.State == Cancelled:
			return b, fmt.Errorf("%w: %s was cancelled, start another one", ErrBackfillOver, id)
		case !b.Active():
			return b, fmt.Errorf("%w: %s has ended, there is nothing to pause", ErrBackfillOver, id)
		}
		b.State, b.ChangedAt = Paused, now
		if b, err = s.Save(ctx, b); !errors.Is(err, ErrConflict) {
			return b, err
		}
	}
	return Backfill{}, fmt.Errorf("backfill %s is being changed by others, try again", id)
}

// Stretches returns how far a backfill has come in the accounts in which it has
// begun.
func (s *Backfills) Stretches(ctx context.Context, id string) ([]Stretch, error) {
	entries, err := s.entries(ctx, backfillPrefix+id+".*")
	if err != nil {
		return nil, fmt.Errorf("list backfill %s: %w", id, err)
	}
	var all []Stretch
	for _, e := range entries {
		if st, err := decodeStretch(e); err == nil {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b Stretch) int { return strings.Compare(a.Account, b.Account) })
	return all, nil
}

// Stretch returns how far a backfill has come in one account. One that has not
// begun is zero, but for the account.
func (s *Backfills) Stretch(ctx context.Context, id, account string) (Stretch, error) {
	e, err := s.kv.Get(ctx, stretchKey(id, account))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Stretch{Account: account}, nil
	}
	if err != nil {
		return Stretch{}, fmt.Errorf("load backfill %s of %s: %w", id, account, err)
	}
	return decodeStretch(e)
}

func decodeStretch(e jetstream.KeyValueEntry) (Stretch, error) {
	var st Stretch
	if err := json.Unmarshal(e.Value(), &st); err != nil || st.Run == "" {
		return Stretch{}, fmt.Errorf("%s: not written by a reconciler; delete it", e.Key())
	}
	st.revision = e.Revision()
	return st, nil
}

// SaveStretch stores how far a backfill has come in an account, after the same
// rules as [Backfills.Save].
func (s *Backfills) SaveStretch(ctx context.Context, id string, st Stretch) (Stretch, error) {
	var err error
	if st.revision, err = s.put(ctx, stretchKey(id, st.Account), st, st.revision); err != nil {
		return Stretch{}, fmt.Errorf("save backfill %s of %s: %w", id, st.Account, err)
	}
	return st, nil
}

// Drop forgets a backfill and how far it came.
func (s *Backfills) Drop(ctx context.Context, id string) error {
	fail := func(err error) error { return fmt.Errorf("drop backfill %s: %w", id, err) }
	stretches, err := s.keys(ctx, backfillPrefix+id+".*")
	if err != nil {
		return fail(err)
	}
	for _, key := range stretches {
		if err := s.kv.Purge(ctx, key); err != nil {
			return fail(err)
		}
	}
	// The last, so that what a crash leaves is dropped the next time.
	if err := s.kv.Purge(ctx, backfillPrefix+id); err != nil {
		return fail(err)
	}
	return nil
}

// Watch tells of every backfill as it is, and then whenever one is changed, but
// not how far it comes. Stop the watcher.
func (s *Backfills) Watch(ctx context.Context) (jetstream.KeyWatcher, error) {
	w, err := s.kv.Watch(ctx, backfillPrefix+"*", jetstream.MetaOnly())
	if err != nil {
		return nil, fmt.Errorf("watch backfills: %w", err)
	}
	return w, nil
}
