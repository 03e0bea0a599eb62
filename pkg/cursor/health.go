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
)

// healthPrefix begins the keys of healths in the bucket of cursors.
const healthPrefix = "_health"

// Health is how a source sends its webhooks, and whether that is an alarm.
type Health struct {
	Source string `json:"source"`
	// Learned is what its usual rate is known from.
	Learned Learned `json:"learned"`
	// Silence is set while nothing has come for longer than is usual.
	Silence *Silence `json:"silence,omitempty"`
	// Refused is set while more of its requests are refused than may be: an alarm.
	Refused *Refused `json:"refused,omitempty"`
}

// Learned is what a usual rate is known from.
type Learned struct {
	// Since is where what is known begins.
	Since time.Time `json:"since,omitzero"`
	// Minutes counts those in which events came.
	Minutes int `json:"minutes"`
	// Enough says that a usual rate is known. Without it there is no silence.
	Enough bool `json:"enough"`
}

// Silence is a time without events that is longer than is usual.
type Silence struct {
	// Since is when the last event came.
	Since time.Time `json:"since"`
	// ProbedAt is when the source was last asked whether anything has changed.
	ProbedAt time.Time `json:"probed_at,omitzero"`
	// AlarmedAt is when it was found that something had, or zero: a source with
	// nothing to send is no alarm.
	AlarmedAt time.Time `json:"alarmed_at,omitzero"`
	// Missed is how many records are known to have changed meanwhile. Reports name
	// only some, so there may be more.
	Missed int `json:"missed,omitzero"`
	// Advice is what to do.
	Advice string `json:"advice,omitzero"`
}

// Refused is a time in which too many requests are refused.
type Refused struct {
	// Since is when it was found.
	Since time.Time `json:"since"`
	// Requests is how many came in the time that is looked at, as it was at Since,
	// and Reasons how many of them were refused why.
	Requests int64            `json:"requests"`
	Reasons  map[string]int64 `json:"reasons"`
}

// Alarms says in a sentence each what needs a person.
func (h Health) Alarms() []string {
	var alarms []string
	if s := h.Silence; s != nil && !s.AlarmedAt.IsZero() {
		alarms = append(alarms, fmt.Sprintf("silent since %s although at least %d records have changed: %s", s.Since.UTC().Format(time.RFC3339), s.Missed, s.Advice))
	}
	if r := h.Refused; r != nil {
		var reasons []string
		var n int64
		for reason, count := range r.Reasons {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, count))
			n += count
		}
		slices.Sort(reasons)
		alarms = append(alarms, fmt.Sprintf("%d of %d requests refused, since %s: %s", n, r.Requests, r.Since.UTC().Format(time.RFC3339), strings.Join(reasons, ", ")))
	}
	return alarms
}

// HealthEntry is a health as it is stored.
type HealthEntry struct {
	Health
	revision uint64 // 0 for one that was never stored
}

// Health returns that of a source; one that was never saved is empty.
func (s *Store) Health(ctx context.Context, source string) (HealthEntry, error) {
	empty := HealthEntry{Health: Health{Source: source}}
	stored, err := s.kv.Get(ctx, healthKey(source))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("load %s: %w", healthKey(source), err)
	}
	h := HealthEntry{revision: stored.Revision()}
	if err := json.Unmarshal(stored.Value(), &h.Health); err != nil {
		h.Health = empty.Health // it is learned again
	}
	return h, nil
}

func healthKey(source string) string {
	return healthPrefix + "." + strings.ReplaceAll(event.Escape(source), "%", "=")
}

// SaveHealth replaces what was loaded or saved as old. It returns [ErrConflict]
// if what is stored is no longer old.
func (s *Store) SaveHealth(ctx context.Context, old HealthEntry, next Health) (HealthEntry, error) {
	key := healthKey(next.Source)
	revision, err := s.put(ctx, key, next, old.revision)
	if err != nil {
		return old, fmt.Errorf("save %s: %w", key, err)
	}
	return HealthEntry{next, revision}, nil
}

// DropHealth forgets a source.
func (s *Store) DropHealth(ctx context.Context, source string) error {
	if err := s.kv.Purge(ctx, healthKey(source)); err != nil {
		return fmt.Errorf("drop %s: %w", healthKey(source), err)
	}
	return nil
}

// Healths returns those of all sources, by name.
func (s *Store) Healths(ctx context.Context) ([]Health, error) {
	entries, err := s.entries(ctx, healthPrefix+".>")
	if err != nil {
		return nil, fmt.Errorf("list healths: %w", err)
	}
	var all []Health
	for _, e := range entries {
		var h Health
		if err := json.Unmarshal(e.Value(), &h); err == nil && h.Source != "" { // else it was written by something else
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b Health) int { return strings.Compare(a.Source, b.Source) })
	return all, nil
}
