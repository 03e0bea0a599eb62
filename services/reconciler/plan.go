package reconciler

import (
	"container/heap"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

const (
	// lookEvery is the longest time between two looks at a cursor: so soon a
	// replica notices that the one which was working on it has gone.
	lookEvery = 30 * time.Second
	// lookPause is the time between two looks of a source, on average, where it
	// has so many resources and accounts that they would be more frequent.
	lookPause = 10 * time.Millisecond
	// settle is how long changes of accounts are gathered.
	settle = time.Second
)

// task is work on one resource of one account. The plan guards it, but for what
// never changes.
type task struct {
	key    cursor.Key
	runner *run.Runner // nil for a scan that has no schedule
	// scanner makes a runner that looks for orphans, nil with a list of events.
	scanner func() (*run.Runner, error)
	// left, of a scan that has no schedule, reports whether one that was asked for has
	// been left by whoever worked on it.
	left  func(context.Context) (bool, error)
	at    time.Time                   // when to look at it
	index int                         // in the queue; -1 while it is in hand
	stop  context.CancelFunc          // while it is in hand
	retry *backoff.ExponentialBackOff // after a failure to begin, else nil
	probe bool                        // it is due although its schedule doesn't say so; never changes while it is in hand
}

// plan makes the runs of one source when they are due: of all its accounts, as
// they come and go, and a bounded number at once. New accounts are spread over
// time, so that many of them don't ask the source and the server all at once.
type plan struct {
	source   string
	accounts *account.Table // nil where the source has none
	make     func(account string) ([]*task, error)
	turn     func(context.Context, *task, time.Duration) (time.Duration, error)
	forget   func(cursor.Key)
	log      *slog.Logger
	slots    int // tasks in hand at once
	back     chan struct{}

	mu    sync.Mutex // guards those below
	tasks map[cursor.Key]*task
	queue queue
	busy  int
}

// all returns the tasks as they are now.
func (p *plan) all() map[cursor.Key]*task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.tasks)
}

// run works until ctx ends and what was in hand has stopped.
func (p *plan) run(ctx context.Context) {
	var inHand sync.WaitGroup
	defer inHand.Wait()
	var changed <-chan struct{} // accounts have; nil while changes are gathered
	gathered := time.NewTimer(0)
	defer gathered.Stop()
	if p.accounts == nil {
		gathered.Stop() // the one task list is there already
	}
	for ctx.Err() == nil {
		due := time.NewTimer(p.start(ctx, &inHand))
		select {
		case <-due.C:
		case <-p.back:
		case <-changed:
			changed = nil
			gathered.Reset(settle)
		case <-gathered.C:
			changed = p.accounts.Changed() // before they are read, so that no change is missed
			p.follow(p.accounts)
		case <-ctx.Done():
		}
		due.Stop()
	}
}

// follow takes in the accounts that have come and lets go those that have gone.
// A run in hand of one that has gone stops at its last saved page.
func (p *plan) follow(accounts *account.Table) {
	there := map[string]bool{}
	for name := range accounts.Active() {
		there[name] = true
	}
	p.mu.Lock()
	known := map[string]bool{}
	for key, t := range p.tasks {
		if there[key.Account] {
			known[key.Account] = true
			continue
		}
		delete(p.tasks, key)
		if t.index >= 0 {
			heap.Remove(&p.queue, t.index)
		} else {
			t.stop()
		}
		p.forget(key)
	}
	p.mu.Unlock()
	var fresh []string
	for name := range there {
		if !known[name] {
			fresh = append(fresh, name)
		}
	}
	p.add(fresh)
}

// add takes accounts in.
func (p *plan) add(accounts []string) {
	var fresh []*task
	for _, name := range accounts {
		tasks, err := p.make(name)
		if err != nil { // the path of its list can't be made with that name
			p.log.LogAttrs(context.Background(), slog.LevelWarn, "account is not reconciled", slog.String("account", name), slog.Any("err", err))
			continue
		}
		fresh = append(fresh, tasks...)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	scheduled := len(fresh)
	for _, t := range fresh {
		if t.left != nil {
			scheduled--
		}
	}
	now, over := time.Now(), time.Duration(scheduled-1)*lookPause
	for _, t := range fresh {
		t.at = now.Add(time.Duration(rand.Float64() * float64(over)))
		if t.left != nil {
			t.at = t.at.Add(over) // few of these have work: they are behind the others
		}
		p.tasks[t.key] = t
		heap.Push(&p.queue, t)
	}
}

// start takes the tasks in hand that are due, as far as there are slots, and
// returns how long to wait for the next.
func (p *plan) start(ctx context.Context, inHand *sync.WaitGroup) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for now := time.Now(); len(p.queue) > 0 && p.busy < p.slots; p.busy++ {
		if wait := p.queue[0].at.Sub(now); wait > 0 {
			return wait
		}
		t := heap.Pop(&p.queue).(*task) //nolint:forcetypeassert // the queue holds nothing else
		ctx, stop := context.WithCancel(ctx)
		t.stop = stop
		longest := max(lookEvery, time.Duration(len(p.tasks))*lookPause)
		inHand.Go(func() {
			defer stop()
			wait, err := p.turn(ctx, t, longest)
			p.done(ctx, t, wait, err)
		})
	}
	return lookEvery
}

// probe makes all reconciliations due now that are not in hand, spread as new
// ones are. Scans for orphans find no gaps, and would delete.
func (p *plan) probe() {
	p.mu.Lock()
	now, over := time.Now(), time.Duration(len(p.queue)-1)*lookPause
	for _, t := range p.queue {
		if t.key.Work == "" {
			t.probe, t.at = true, now.Add(time.Duration(rand.Float64()*float64(over)))
		}
	}
	heap.Init(&p.queue)
	p.mu.Unlock()
	p.wake()
}

// wake has the plan look at what is due.
func (p *plan) wake() {
	select {
	case p.back <- struct{}{}:
	default: // it is known already
	}
}

// done puts a task back, for after wait or, after a failure, a growing time.
// What goes wrong is told and tried again: nothing a source does may end it.
func (p *plan) done(ctx context.Context, t *task, wait time.Duration, err error) {
	if err != nil && ctx.Err() == nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "reconciliation can't begin", slog.String("resource", t.key.String()), slog.Any("err", err))
	}
	p.mu.Lock()
	p.busy--
	if p.tasks[t.key] != t { // its account has gone meanwhile
		p.forget(t.key)
	} else {
		switch {
		case err == nil:
			t.retry, t.probe = nil, false
		case t.retry == nil:
			t.retry = backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second),
				backoff.WithMaxInterval(lookEvery), backoff.WithMaxElapsedTime(0))
			fallthrough
		default:
			wait = t.retry.NextBackOff()
		}
		t.at = time.Now().Add(wait)
		heap.Push(&p.queue, t)
	}
	p.mu.Unlock()
	p.wake()
}

// queue is a heap of tasks, the one that is due first in front.
type queue []*task

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push adds a task; use [heap.Push].
func (q *queue) Push(x any) {
	t := x.(*task) //nolint:forcetypeassert // only tasks are pushed
	t.index = len(*q)
	*q = append(*q, t)
}

// Pop removes the last one; use [heap.Pop].
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	*q = slices.Delete(*q, last, last+1) // which clears its place
	t.index = -1
	return t
}
