package simulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Record is one order as it is at the source.
type Record struct {
	// ID is the record's id.
	ID string
	// Version counts the record's changes from 1.
	Version int
	// UpdatedAt is when it was last changed.
	UpdatedAt time.Time
	// JSON is the record as the API shows it, or showed it last.
	JSON []byte
	// Deleted says that the source no longer has it.
	Deleted bool
	// Poisoned says that it can't be fetched before [Provider.Heal].
	Poisoned bool
}

// order is a record's JSON.
type order struct {
	ID         string    `json:"id"`
	Status     string    `json:"status"`
	Version    int       `json:"version"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	CustomerID string    `json:"customer_id"`
	Currency   string    `json:"currency"`
	Total      int       `json:"total"` // in cents
	Lines      []line    `json:"lines"`
}

type line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"` // in cents
}

type customer struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

var statuses = []string{"open", "paid", "packed", "shipped", "delivered", "returned"}

// store has the records. It is guarded by its provider.
type store struct {
	records map[string]*Record
	plan    plan
	// changes are in the order of time; only a record's last one shows it as it
	// is, so a list is a walk that skips the others.
	changes   []place
	last      time.Time // of all changes, ends included
	customers map[string][]byte
	healed    bool
}

type place struct {
	at     time.Time
	record *Record
}

func newStore(p plan) store {
	s := store{records: make(map[string]*Record, p.records), plan: p, customers: make(map[string][]byte, p.customers)}
	for i := range p.customers {
		c := customer{ID: customerID(i), Name: fmt.Sprintf("Customer %d", i+1), Email: fmt.Sprintf("customer-%d@example.com", i+1)}
		s.customers[c.ID] = mustJSON(c)
	}
	return s
}

func recordID(run string, i int) string { return fmt.Sprintf("ord_%s%06d", run, i+1) }
func customerID(i int) string           { return fmt.Sprintf("cus_%05d", i+1) }

// change applies a step and returns the record as it is now.
func (s *store) change(st step, now time.Time) Record {
	at := s.nextTime(now)
	id := recordID(s.plan.run, st.record)
	r := s.records[id]
	if r == nil {
		r = &Record{ID: id, Poisoned: s.plan.poisoned[st.record]}
		s.records[id] = r
	}
	r.Version++
	r.UpdatedAt = at
	if st.kind == deleted {
		r.Deleted = true
		return *r
	}
	r.JSON = s.encode(st, *r)
	s.changes = append(s.changes, place{at, r})
	return *r
}

// nextTime gives every change a time of its own that is later than all before,
// whatever the clock does: a record's versions are ordered by it.
func (s *store) nextTime(now time.Time) time.Time {
	s.last = later(now.UTC().Round(0), s.last.Add(time.Nanosecond))
	return s.last
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *store) encode(st step, r Record) []byte {
	o := order{
		ID: r.ID, Status: statuses[min(r.Version-1, len(statuses)-1)], Version: r.Version, CreatedAt: r.UpdatedAt,
		UpdatedAt: r.UpdatedAt, CustomerID: customerID(st.record % s.plan.customers), Currency: "EUR",
	}
	if r.Version > 1 {
		var before order
		if json.Unmarshal(r.JSON, &before) == nil {
			o.CreatedAt = before.CreatedAt
		}
	}
	for n := range 1 + (st.record+r.Version)%3 {
		l := line{SKU: fmt.Sprintf("sku-%04d", (st.record*7+n*13)%10_000), Quantity: 1 + (r.Version+n)%5, Price: 199 + 50*n}
		o.Lines = append(o.Lines, l)
		o.Total += l.Quantity * l.Price
	}
	return mustJSON(o)
}

// hidden tells whether the API refuses a record.
func (s *store) hidden(r *Record) bool { return r.Poisoned && !s.healed }

// position is a place in the list: behind every change up to this one.
type position struct {
	at    time.Time
	after bool // behind at itself, too
}

// list returns up to limit records in the order of their last change, and
// whether there may be more.
func (s *store) list(from position, limit int) (page []Record, more bool) {
	i, found := slices.BinarySearchFunc(s.changes, from.at, func(p place, t time.Time) int { return p.at.Compare(t) })
	if found && from.after {
		i++
	}
	for _, p := range s.changes[i:] {
		if r := p.record; r.Deleted || s.hidden(r) || !r.UpdatedAt.Equal(p.at) {
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, *p.record)
	}
	return page, false
}

func (s *store) newest() map[string]Record {
	all := make(map[string]Record, len(s.records))
	for id, r := range s.records {
		all[id] = *r
	}
	return all
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // no type of this package can fail
	}
	return b
}
