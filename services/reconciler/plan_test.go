package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/reconciler"
)

// turns notes when the accounts of a plan have their turns.
type turns struct {
	accounts, slots int
	takes           time.Duration // each
	began           time.Time

	mu     sync.Mutex // guards those below
	inHand int
	most   int                        // that were in hand at once
	starts map[string][]time.Duration // of each account
}

func (n *turns) take(ctx context.Context, name string, longest time.Duration) (time.Duration, error) {
	n.mu.Lock()
	n.inHand++
	n.most = max(n.most, n.inHand)
	n.starts[name] = append(n.starts[name], time.Since(n.began))
	n.mu.Unlock()
	select {
	case <-time.After(n.takes):
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inHand--
	return longest, nil
}

// started is how many accounts have had at least that many turns.
func (n *turns) started(times int) (accounts int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.starts {
		if len(s) >= times {
			accounts++
		}
	}
	return accounts
}

// planned runs the plan in a bubble of its own time, and calls check in it.
func (n *turns) planned(t *testing.T, turn reconciler.Turn, check func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range n.accounts {
			names = append(names, fmt.Sprintf("a%04d", i))
		}
		set, err := account.Fixed(map[string]provider.Source{"shop": {Accounts: provider.Accounts{Names: names}}})
		if err != nil {
			t.Fatal(err)
		}
		n.starts, n.began = map[string][]time.Duration{}, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			reconciler.RunPlan(ctx, set.Of("shop"), n.slots, turn)
		}()
		check()
		cancel()
		<-ended
	})
}

// Two thousand accounts that come at once begin over twenty seconds, evenly, and
// go on so: no second asks for many more than another.
func TestStartsOfAccountsAreSpread(t *testing.T) {
	t.Parallel()
	const accounts = 2000
	n := &turns{accounts: accounts, slots: 8, takes: 2 * time.Millisecond}
	n.planned(t, n.take, func() {
		<-time.After(21 * time.Second)
		if got := n.started(1); got != accounts {
			t.Errorf("%d accounts have had a turn after 21s, want all %d", got, accounts)
		}
		<-time.After(31 * time.Second)
		if got := n.started(2); got != accounts {
			t.Errorf("%d accounts have had two turns after 52s, want all %d", got, accounts)
		}
	})
	seconds := map[int]int{}
	for _, starts := range n.starts {
		seconds[int(starts[0]/time.Second)]++
	}
	for second := range 20 {
		if got := seconds[second]; got < 50 || got > 170 { // 100 on average, within five standard deviations
			t.Errorf("%d accounts begin in second %d, want about 100", got, second)
		}
	}
}

// Slots bound how many are in hand, and none of those that wait is forgotten.
func TestSlotsBoundWhatIsInHand(t *testing.T) {
	t.Parallel()
	n := &turns{accounts: 40, slots: 4, takes: time.Second}
	n.planned(t, n.take, func() {
		<-time.After(12 * time.Second) // ten turns of four
		if got := n.started(1); got != 40 {
			t.Errorf("%d accounts have had a turn, want all 40", got)
		}
	})
	if n.most != 4 {
		t.Errorf("%d turns in hand at once, want 4", n.most)
	}
}

// An account whose turns fail is tried again at growing intervals, and keeps
// nobody else from theirs.
func TestTurnsThatFailAreTriedLessAndLess(t *testing.T) {
	t.Parallel()
	n := &turns{accounts: 3, slots: 1}
	n.planned(t, func(ctx context.Context, name string, longest time.Duration) (time.Duration, error) {
		wait, err := n.take(ctx, name, longest)
		if name == "a0001" {
			err = errors.New("no lease to be had")
		}
		return wait, err
	}, func() {
		<-time.After(2 * time.Minute)
	})
	if failing := len(n.starts["a0001"]); failing < 6 || failing > 20 { // from 1s to 30s, by half more each, give or take half
		t.Errorf("%d turns of an account that fails within 2m, want about 10", failing)
	}
	for _, name := range []string{"a0000", "a0002"} {
		if got := len(n.starts[name]); got < 4 || got > 5 {
			t.Errorf("%d turns of %s within 2m, want one every 30s", got, name)
		}
	}
}
