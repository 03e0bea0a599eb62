package run_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/destination"
)

// shelf is a destination's records by id. The readers of real ones have tests of
// their own; the whole way is tested where the programs are.
type shelf map[string]destination.Held

func (s shelf) Versions(_ context.Context, k destination.Key, ids []string) (map[string]destination.Held, error) {
	found := map[string]destination.Held{}
	for _, id := range ids {
		if h, ok := s[id]; ok && k == (destination.Key{Source: "orders", Account: "_", Resource: "order"}) {
			found[id] = h
		}
	}
	return found, nil
}

func (s shelf) All(_ context.Context, k destination.Key) iter.Seq2[destination.Held, error] {
	return func(yield func(destination.Held, error) bool) {
		if k != (destination.Key{Source: "orders", Account: "_", Resource: "order"}) {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(s)) {
			if !yield(s[id], nil) {
				return
			}
		}
	}
}

// Promise 6: what a destination lacks is sent again, though the ledger has it.
func TestPromise6WhatADestinationLacksIsSentAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.catchUp = 200 * time.Millisecond // no sink serves the destination
	hour := noon.Add(-time.Hour)
	s := shelf{}
	f.shelves = map[string]shelf{"warehouse": s, "empty": {}}
	for i, id := range []string{"matched", "lost", "stale", "deleted", "ahead", "unseen"} {
		at := hour.Add(time.Duration(i) * time.Minute)
		f.shop.put(id, at)
		h := destination.Held{ID: id, Version: event.TimeVersion(at), ObservedAt: at}
		switch id {
		case "stale":
			h.Version = event.TimeVersion(at.Add(-time.Minute))
		case "ahead":
			h.Version = event.TimeVersion(at.Add(time.Minute))
		case "deleted":
			h.Deleted = true
		}
		if id != "lost" && id != "unseen" {
			s[id] = h
		}
		if id != "unseen" {
			f.saw(id, at, false)
		}
	}
	r := f.runner(ascending + ", against: [ledger, destination:warehouse]")

	dry, err := r.Begin(t.Context(), dryRun)
	if err != nil {
		t.Fatal(err)
	}
	if err := dry.Do(); err != nil {
		t.Fatal(err)
	}
	if d := f.report(dry.ID()).Destinations["warehouse"]; d.Missed != 2 || d.Stale != 2 || d.Repaired != 0 || len(f.sent()) != 0 {
		t.Errorf("a dry run found %+v and sent %d", d, len(f.sent()))
	}

	rep := f.do(r)
	d := rep.Destinations["warehouse"]
	held := d.Held
	d.Held = report.Set{}
	if want := (report.Destination{Matched: 1, Ahead: 1, Missed: 2, Stale: 2, Repaired: 3, Behind: true}); d != want || held.Records != 3 {
		t.Errorf("warehouse %+v with %d records, want %+v with 3", d, held.Records, want)
	}
	if rep.Missed != 1 || rep.Matched != 5 || rep.Repaired != 4 || !rep.Complete {
		t.Errorf("report %+v, want 1 missed in the ledger and 4 sent again", rep.Counts)
	}
	if got := f.sentIDs(); got != "deleted lost stale unseen" {
		t.Errorf("sent %s", got)
	}
	var named []string
	for _, rec := range rep.Records {
		named = append(named, rec.ID+" "+rec.Verdict+" "+rec.Destination)
	}
	slices.Sort(named)
	if got := strings.Join(named, ", "); got != "deleted stale warehouse, lost missed warehouse, stale stale warehouse, unseen missed " {
		t.Errorf("records %s", got)
	}
	// Each run sends it under a message id of its own, which passes the windows.
	first := ids(f.sent())
	f.do(f.runner("items: orders, next: cursor, against: [ledger, destination:warehouse]"))
	second := ids(f.sent())
	if len(second) != len(first)+4 {
		t.Errorf("%d triggers after the second run, want 4 more than %d", len(second), len(first))
	}
}

func ids(sent []consume.Message) map[string]bool {
	all := map[string]bool{}
	for _, m := range sent {
		all[m.Header.Get(jetstream.MsgIDHeader)] = true
	}
	return all
}

// A destination that no sink has ever served is behind, which is known at once.
func TestDestinationThatNoSinkServesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shelves = map[string]shelf{"warehouse": {}}
	f.shop.put("a", noon.Add(-time.Hour))
	f.catchUp = 24 * time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun, err := f.runner(ascending+", against: [ledger, destination:warehouse]").Begin(ctx, onDemand)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err != nil {
		t.Fatal(err)
	}
	if d := f.report(begun.ID()).Destinations["warehouse"]; !d.Behind {
		t.Errorf("warehouse %+v, want it behind", d)
	}
}

// A destination that has taken every event is not behind; one that has not is
// waited for, and the report says so.
func TestDestinationIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.shelves = map[string]shelf{"warehouse": {}, "empty": {}}
	f.saw("a", noon.Add(-time.Hour), false)
	f.shop.put("a", noon.Add(-time.Hour))
	f.shelves["warehouse"]["a"] = destination.Held{ID: "a", Version: event.TimeVersion(noon.Add(-time.Hour))}
	f.work(topology.StreamEnriched, func(d topology.Delivery) jetstream.ConsumerConfig {
		return topology.DeliverConsumer("warehouse", []string{"tercel.enriched.>"}, d)
	}, func(context.Context, consume.Message) error { return nil })
	f.await(topology.StreamEnriched, topology.DeliverDurable("warehouse"))
	got := f.do(f.runner(ascending + ", against: [ledger, destination:warehouse]")).Destinations
	if d := got["warehouse"]; d.Behind || d.Matched != 1 {
		t.Errorf("warehouse %+v, want it not behind", d)
	}
	f.catchUp = 200 * time.Millisecond
	f.pass(time.Hour)
	got = f.do(f.runner("items: orders, next: cursor, against: [ledger, destination:empty, destination:warehouse]")).Destinations
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"empty", "warehouse"}) || !got["empty"].Behind {
		t.Errorf("destinations %+v, want empty behind", got)
	}
}
