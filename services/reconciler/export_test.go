package reconciler

import (
	"container/heap"
	"context"
	"log/slog"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/cursor"
)

func init() { alarmEvery = 200 * time.Millisecond }

// Turn is what a plan does for an account when it is due. It returns when it
// should be due again, longest at the latest.
type Turn func(ctx context.Context, account string, longest time.Duration) (time.Duration, error)

// RunPlan makes turns of one resource of the accounts, slots at once, until ctx
// ends.
func RunPlan(ctx context.Context, accounts *account.Table, slots int, turn Turn) {
	p := &plan{
		accounts: accounts, slots: slots, back: make(chan struct{}, 1), tasks: map[cursor.Key]*task{},
		forget: func(cursor.Key) {}, log: slog.New(slog.DiscardHandler),
		make: func(name string) ([]*task, error) {
			return []*task{{key: cursor.Key{Source: "shop", Account: name, Resource: "order"}}}, nil
		},
		turn: func(ctx context.Context, t *task, longest time.Duration) (time.Duration, error) {
			return turn(ctx, t.key.Account, longest)
		},
	}
	p.run(ctx)
}

// Probed returns which of the tasks of a plan, none of them due, a probe makes
// due.
func Probed(keys []cursor.Key) (due []cursor.Key) {
	p := &plan{back: make(chan struct{}, 1), tasks: map[cursor.Key]*task{}}
	later := time.Now().Add(time.Hour)
	for _, k := range keys {
		heap.Push(&p.queue, &task{key: k, at: later})
	}
	p.probe()
	for len(p.queue) > 0 {
		if t := heap.Pop(&p.queue).(*task); t.probe && t.at.Before(later) { //nolint:forcetypeassert // the queue holds nothing else
			due = append(due, t.key)
		}
	}
	return due
}
