package model_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// ids are the records that there can be. Some differ in case or one byte only,
// some must be escaped.
var ids = []string{"a1", "A1", "a2", "a 1", "a/1", "ä1", "b1", "b2", "b3", "b4", "b5", "b6"}

// record is one as the provider shows it.
type record struct {
	ID      string    `json:"id"`
	Version int       `json:"version"`
	Updated time.Time `json:"updated_at"`
}

func (r record) json() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // a mistake in a test
	}
	return string(text)
}

// book is what the provider has of one account: the truth that a destination is
// held against.
type book struct {
	account string

	mu     sync.Mutex // guards those below
	live   map[string]record
	gone   map[string]bool   // those that were ever deleted
	last   map[string]record // of all there ever were, as they were last
	events []happened        // of all those times
}

func newBook(account string) *book {
	return &book{account: account, live: map[string]record{}, gone: map[string]bool{}, last: map[string]record{}}
}

// put makes or changes a record, which also brings a deleted one back, with at as
// the time of its change. Times of a record go up: no source shows a change with
// the time of an earlier one.
func (b *book) put(id string, at time.Time) record {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.last[id]
	if !at.After(before.Updated) {
		at = before.Updated.Add(time.Second)
	}
	r := record{ID: id, Version: before.Version + 1, Updated: at}
	b.live[id], b.last[id] = r, r
	return r
}

// remove deletes a record and reports whether it was there.
func (b *book) remove(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, there := b.live[id]
	delete(b.live, id)
	b.gone[id] = b.gone[id] || there
	return there
}

func (b *book) get(id string) (record, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, there := b.live[id]
	return r, there
}

// ever reports whether a record was ever deleted.
func (b *book) ever(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone[id]
}

// records are those that there are, by the time of change.
func (b *book) records() []record {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []record
	for _, r := range b.live {
		all = append(all, r)
	}
	slices.SortFunc(all, byChange)
	return all
}

// changed is the time of the last change that can be seen.
func (b *book) changed() (last time.Time) {
	for _, r := range b.records() {
		if r.Updated.After(last) {
			last = r.Updated
		}
	}
	for _, h := range b.told() {
		if h.At.After(last) {
			last = h.At
		}
	}
	return last
}

func byChange(a, b record) int {
	if c := a.Updated.Compare(b.Updated); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func byID(a, b record) int { return strings.Compare(a.ID, b.ID) }
