package cursor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrForward is returned by [Store.Reset] for a time that the cursor has not
// come to: what lies between would count as complete and was never compared.
var ErrForward = errors.New("a cursor can only be reset to a time that it has passed, or to the beginning")

// resetTries bounds the attempts to write a cursor that a run keeps writing.
const resetTries = 20

// Reset sets a cursor back to a time, or to the beginning if that is zero, and
// returns what it was. What changed since is listed and compared again: its next
// run is due. A run in hand stops at the next page, as if another had taken over.
// A cursor that was never saved is left so.
func (s *Store) Reset(ctx context.Context, key Key, to, now time.Time) (before Cursor, err error) {
	for range resetTries {
		e, err := s.Load(ctx, key)
		if err != nil || e.revision == 0 {
			return e.Cursor, err
		}
		if !to.IsZero() && to.After(e.Through) {
			return e.Cursor, fmt.Errorf("reset cursor %s: %w", key, ErrForward)
		}
		next := e.Cursor
		next.Through, next.Window, next.Failures = to, nil, 0
		next.RetryAt, next.NextAt = now, now
		_, err = s.put(ctx, key.String(), next, e.revision)
		if err == nil {
			return e.Cursor, nil
		}
		if !errors.Is(err, ErrConflict) {
			return e.Cursor, fmt.Errorf("reset cursor %s: %w", key, err)
		}
	}
	return before, fmt.Errorf("reset cursor %s: %w", key, ErrConflict)
}
