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
)

// ErrPaused is the cause of a context of [Pauses.While] that ended because its
// resource was paused.
var ErrPaused = errors.New("reconciliation is paused")

// pausedPrefix begins the keys of pauses in the bucket of cursors.
const pausedPrefix = "_paused"

// Pause keeps resources from being reconciled until they are resumed. It is
// stored beside the cursors, so it holds whether a reconciler runs or not.
type Pause struct {
	Scope
	// Since is when it began.
	Since time.Time `json:"since"`
}

// Pauses lists the pauses, in the order of what they name.
func (s *Store) Pauses(ctx context.Context) ([]Pause, error) {
	entries, err := s.entries(ctx, pausedPrefix+".>")
	if err != nil {
		return nil, fmt.Errorf("list pauses: %w", err)
	}
	var pauses []Pause
	for _, e := range entries {
		if p, ok := readPause(e); ok {
			pauses = append(pauses, p)
		}
	}
	slices.SortFunc(pauses, func(a, b Pause) int { return strings.Compare(a.key(""), b.key("")) })
	return pauses, nil
}

// readPause reads a pause as it is stored. What it names is in its key alone.
func readPause(e jetstream.KeyValueEntry) (Pause, bool) {
	scope, ok := parseScope(pausedPrefix, e.Key())
	p := Pause{Since: e.Created()}
	if err := json.Unmarshal(e.Value(), &p); err != nil {
		p.Since = e.Created() // a pause holds, whoever wrote it
	}
	p.Scope = scope
	return p, ok
}

// Pause keeps what scope names from being reconciled from now on. Runs in hand
// stop at the last page that they have saved, and go on from there once all of
// it is resumed. It returns the pauses that there were of the same or of more.
func (s *Store) Pause(ctx context.Context, scope Scope, now time.Time) (before []Pause, err error) {
	pauses, err := s.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pauses {
		if p.Holds(scope) {
			before = append(before, p)
		}
	}
	if _, err := s.put(ctx, scope.key(pausedPrefix), Pause{scope, now.UTC()}, 0); err != nil && !errors.Is(err, ErrConflict) {
		return nil, fmt.Errorf("pause %s: %w", scope, err)
	}
	return before, nil
}

// Resume ends the pauses of what scope names and of parts of it, and returns
// them. Those that it returns as left name more than scope and still hold.
func (s *Store) Resume(ctx context.Context, scope Scope) (ended, left []Pause, err error) {
	pauses, err := s.Pauses(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range pauses {
		switch {
		case scope.Holds(p.Scope):
			if err := s.kv.Purge(ctx, p.key(pausedPrefix)); err != nil {
				return ended, nil, fmt.Errorf("resume %s: %w", p.Scope, err)
			}
			ended = append(ended, p)
		case scope.Meets(p.Scope):
			left = append(left, p)
		}
	}
	return ended, left, nil
}
