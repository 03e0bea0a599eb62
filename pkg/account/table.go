package account

import (
	"cmp"
	"errors"
	"hash/maphash"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
)

// shards is into how many maps a table is split. A change copies one of them:
// a hundred entries of 25,000.
const shards = 256

// Table is the accounts of one source. It is safe for concurrent use.
type Table struct {
	name   string
	source provider.Source
	box    *seal.Box // opens sealed entries; nil without seal keys
	log    *slog.Logger
	loaded chan struct{} // closed once the accounts were read

	seed  maphash.Seed
	shard [shards]atomic.Pointer[map[string]*item]

	active, disabled, broken atomic.Int64

	left []string // accounts that there was no room for, last; used by one goroutine

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed, and another one made, by each change
}

// item is one account as the table has it. It never changes; another one takes
// its place.
type item struct {
	account *provider.Account // the last good one; nil if there was none
	fault   error             // why the newest entry isn't in use, or nil
	sum     uint64            // of the newest entry's text
	stamp   stamp             // of the newest entry's file, where it has one of its own
	secrets []secretFile      // files that its secrets were read from
}

// Count is how many accounts there are.
type Count struct {
	Active   int `json:"active"`
	Disabled int `json:"disabled"`
	// Broken have an entry that can't be used. Those among them that once had a
	// good one are active or disabled too.
	Broken int `json:"broken"`
}

func newTable(name string, source provider.Source, box *seal.Box, log *slog.Logger) *Table {
	t := &Table{
		name: name, source: source, box: box, log: log, seed: maphash.MakeSeed(),
		loaded: make(chan struct{}), changed: make(chan struct{}),
	}
	for i := range t.shard {
		t.shard[i].Store(&map[string]*item{})
	}
	if !source.Accounts.Live() {
		fixed := map[string]*item{}
		for _, account := range source.Accounts.Names {
			fixed[account] = &item{account: &provider.Account{Name: account}}
		}
		t.apply(fixed)
		close(t.loaded)
	}
	return t
}

// Find returns an account that may send, or [ErrUnknown], [ErrBroken] or
// [ErrLoading]. It allocates nothing. What it returns must not be changed.
func (t *Table) Find(name string) (*provider.Account, error) {
	it := t.find(name)
	switch {
	case it == nil:
		select {
		case <-t.loaded:
			return nil, ErrUnknown
		default:
			return nil, ErrLoading
		}
	case it.account == nil:
		return nil, ErrBroken
	case it.account.Disabled:
		return nil, ErrUnknown
	}
	return it.account, nil
}

func (t *Table) find(name string) *item {
	return (*t.shard[maphash.String(t.seed, name)%shards].Load())[name]
}

// Active iterates over the names of the accounts that are not disabled, in no
// order.
func (t *Table) Active() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, it := range t.all() {
			if it.account != nil && !it.account.Disabled && !yield(name) {
				return
			}
		}
	}
}

// All iterates over all accounts, in no order. One is nil whose entry was never
// good.
func (t *Table) All() iter.Seq2[string, *provider.Account] {
	return func(yield func(string, *provider.Account) bool) {
		for name, it := range t.all() {
			if !yield(name, it.account) {
				return
			}
		}
	}
}

func (t *Table) all() iter.Seq2[string, *item] {
	return func(yield func(string, *item) bool) {
		for i := range t.shard {
			for name, it := range *t.shard[i].Load() {
				if !yield(name, it) {
					return
				}
			}
		}
	}
}

// Count returns how many accounts there are.
func (t *Table) Count() Count {
	return Count{Active: int(t.active.Load()), Disabled: int(t.disabled.Load()), Broken: int(t.broken.Load())}
}

// Changed returns a channel that is closed by the next change.
func (t *Table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// ready tells those who wait that the accounts were read. Only the goroutine
// that reads them calls it.
func (t *Table) ready() {
	select {
	case <-t.loaded:
	default:
		close(t.loaded)
	}
}

// apply makes changes, whose nil items are removals, and returns which were
// left out since there may be no more accounts. It is called by one goroutine
// at a time.
func (t *Table) apply(changes map[string]*item) (left []string) {
	if len(changes) == 0 {
		return nil
	}
	fresh := map[uint64]map[string]*item{} // the shards that change
	shardOf := func(name string) map[string]*item {
		i := maphash.String(t.seed, name) % shards
		if fresh[i] == nil {
			fresh[i] = maps.Clone(*t.shard[i].Load())
		}
		return fresh[i]
	}
	total, most := 0, t.source.Accounts.Max
	for i := range t.shard {
		total += len(*t.shard[i].Load())
	}
	// Removals first, since they make room; then names in their order, so that
	// which ones find none doesn't depend on chance.
	names := slices.SortedFunc(maps.Keys(changes), func(a, b string) int {
		return cmp.Or(order(changes[a] != nil)-order(changes[b] != nil), cmp.Compare(a, b))
	})
	for _, name := range names {
		shard, next := shardOf(name), changes[name]
		old := shard[name]
		switch {
		case next == nil:
			delete(shard, name)
		case old == nil && t.source.Accounts.Live() && total >= most:
			left = append(left, name)
			continue
		default:
			shard[name] = next
		}
		total += order(next != nil) - order(old != nil)
		t.tally(old, -1)
		t.tally(next, 1)
	}
	if len(left) == len(changes) {
		return left
	}
	for i, shard := range fresh {
		t.shard[i].Store(&shard)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
	return left
}

func order(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *Table) tally(it *item, n int64) {
	if it == nil {
		return
	}
	if it.fault != nil {
		t.broken.Add(n)
	}
	switch {
	case it.account == nil:
	case it.account.Disabled:
		t.disabled.Add(n)
	default:
		t.active.Add(n)
	}
}

// faults lists what is wrong with entries.
func (t *Table) faults() config.Faults {
	var all config.Faults
	for name, it := range t.all() {
		var some config.Faults
		switch {
		case errors.As(it.fault, &some):
			all = append(all, some...)
		case it.fault != nil:
			all = append(all, config.Fault{Key: name, Found: it.fault.Error()})
		}
	}
	slices.SortStableFunc(all, func(a, b config.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return all
}
