package run_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// A scan that is killed at any page buries nothing, and goes on where it was.
func TestKilledScanGoesOn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(40)
	f.shop.remove("o003", "o021")
	f.shop.before(func(int) { f.pass(time.Minute) }) // each page is kept
	r := f.scanner(ascending)
	for kill := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		asked := len(f.shop.requests())
		f.shop.troubled(func(n int, _ http.ResponseWriter, r *http.Request) bool {
			if n < asked+5 {
				return false
			}
			cancel()
			<-r.Context().Done() // it never answers
			return true
		})
		begun, err := r.Begin(ctx, burying)
		if err != nil {
			t.Fatal(err)
		}
		if err := begun.Do(); err == nil {
			t.Fatalf("run %d ended although it was killed", kill)
		}
		if n := len(f.sent()) + len(f.reports()); n != 0 {
			t.Fatalf("%d triggers and reports after half a list", n)
		}
		cancel()
	}
	f.shop.troubled(nil)
	before := len(f.shop.requests())
	rep := f.scan(r, burying)
	if got := orphansOf(rep); got != "o003 o021" || f.sentIDs() != got || !rep.Complete || rep.Deletes.Held != 40 || rep.Listed != 38 {
		t.Errorf("report %+v %+v, want o003 and o021 orphaned", rep.Counts, rep.Deletes)
	}
	if n := len(f.shop.requests()) - before; n != 19-15 || rep.Pages != 19 {
		t.Errorf("%d pages in the last run and %d in all, want 4 and 19: it went on", n, rep.Pages)
	}
	if keys := f.keys(); strings.Contains(keys, ".listed.") {
		t.Errorf("keys %s, want none of what was listed", keys)
	}
}

// What was listed before a scan was killed has to be there, all of it, or the
// scan begins anew.
func TestScanWithoutWhatItListedBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, f *fixture){
		"a block is gone": func(t *testing.T, f *fixture) {
			f.block(t, 1, nil)
		},
		"a block is another scan's": func(t *testing.T, f *fixture) {
			f.block(t, 1, func(b []byte) []byte { return append([]byte("somebody else's, of 22"), b[22:]...) })
		},
		"a block is another one of the scan": func(t *testing.T, f *fixture) {
			var other []byte
			f.block(t, 0, func(b []byte) []byte { other = b; return b })
			f.block(t, 1, func([]byte) []byte { return other })
		},
		"a block is short":   func(t *testing.T, f *fixture) { f.block(t, 1, func(b []byte) []byte { return b[:len(b)-8] }) },
		"a block is damaged": func(t *testing.T, f *fixture) { f.block(t, 1, func(b []byte) []byte { return b[:len(b)-3] }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.hold(20)
			f.shop.remove("o013")
			f.shop.before(func(int) { f.pass(time.Minute) })
			r := f.scanner(ascending)
			f.killAt(r, burying, 5)
			damage(t, f)
			before := len(f.shop.requests())
			rep := f.scan(r, burying)
			if got := orphansOf(rep); got != "o013" || f.sentIDs() != got || rep.Deletes.Unlisted != 1 {
				t.Errorf("report %+v %+v, want o013 orphaned", rep.Counts, rep.Deletes)
			}
			if n := len(f.shop.requests()) - before; n != 10 {
				t.Errorf("%d pages were read, want all 10", n)
			}
		})
	}
}

// killAt begins a scan and kills it at a request.
func (f *fixture) killAt(r *run.Runner, o run.Options, request int) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	f.shop.troubled(func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n < request {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	})
	begun, err := r.Begin(ctx, o)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := begun.Do(); err == nil {
		f.t.Fatal("the scan ended although it was killed")
	}
	f.shop.troubled(nil)
}

// block changes what is kept of what was listed, or deletes it.
func (f *fixture) block(t *testing.T, n int, change func([]byte) []byte) {
	t.Helper()
	kv, err := f.js.KeyValue(t.Context(), topology.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprint("orders._.order.listed.", n)
	e, err := kv.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if change == nil {
		err = kv.Delete(t.Context(), name)
	} else {
		_, err = kv.Put(t.Context(), name, change(e.Value()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A scheduled scan gives way to other resources now and then. Reconciliation and
// a scan of the same resource don't wait for each other.
func TestScheduledScanGivesWay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(250)
	f.do(f.runner(ascending))
	f.shop.remove("o100", "o249")
	r := f.scanner(ascending + ", deletes: {tombstone: true}")
	first, err := r.Begin(t.Context(), scheduled)
	if err != nil {
		t.Fatal(err)
	}
	before := len(f.shop.requests())
	reconciling := f.begin(f.runner(ascending)) // while the scan has its lease
	if err := first.Do(); err != nil {
		t.Fatal(err)
	}
	reconciling.Drop()
	if n := len(f.shop.requests()) - before; n != 100 || len(f.sent()) != 0 || len(f.reports()) != 1 {
		t.Fatalf("%d pages, %d triggers and %d reports in one turn, want 100, none and reconciliation's", n, len(f.sent()), len(f.reports()))
	}
	if due, err := r.Due(t.Context()); err != nil || due.After(f.clock()) {
		t.Errorf("Due() = %s, %v, want at once", due, err)
	}
	rep := f.scan(r, scheduled)
	if got := orphansOf(rep); got != "o100 o249" || f.sentIDs() != got || rep.Run != first.ID() || rep.Listed != 248 {
		t.Errorf("report %+v %+v, want o100 and o249 orphaned", rep.Counts, rep.Deletes)
	}
}

// A scheduled scan gives way to other resources while it asks for single records
// too, and goes on behind those; and each of its requests gives way to those of
// others.
func TestScanGivesWayWhileItAsks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const unlisted = 1100 // more than a turn asks for
	f.hold(unlisted + 2)
	f.shop.hide(all(unlisted)...)
	r := f.scanner(ascending + ", deletes: {max_share: 1}")
	first, err := r.Begin(t.Context(), scheduled)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Do(); err != nil {
		t.Fatal(err)
	}
	asked := len(strings.Fields(f.shop.gets()))
	if asked != 1024+1 || len(f.reports()) != 0 { // and for one that was listed
		t.Fatalf("asked for %d records in one turn with %d reports, want 1025 and none", asked, len(f.reports()))
	}
	if due, err := r.Due(t.Context()); err != nil || due.After(f.clock()) {
		t.Errorf("Due() = %s, %v, want at once", due, err)
	}
	rep := f.scan(r, scheduled)
	if n := len(strings.Fields(f.shop.gets())); n != unlisted-1024+1 || rep.Deletes.Present != unlisted || !rep.Complete || rep.Run != first.ID() {
		t.Errorf("asked for %d more records, report %+v, want the other 76 and one", n, rep.Deletes)
	}
	if f.giveWay == 0 || f.goFirst != 0 {
		t.Errorf("%d of the scan's requests gave way and %d did not, want all of them to", f.giveWay, f.goFirst)
	}
	f.do(f.runner(ascending))
	if f.goFirst == 0 {
		t.Error("the requests of a reconciliation gave way")
	}
}

// A scan that stops while it asks goes on behind what it has dealt with, and
// counts each record once.
func TestScanGoesOnAsking(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.hold(200)
	f.shop.remove(all(75)...)
	f.shop.hide(all(150)...) // the others are there all the same
	down, asked := true, 0
	f.shop.getting(func(_ string, w http.ResponseWriter) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if asked++; down && asked > 65 { // one that was listed, and the first part
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	r := f.scanner(ascending + ", deletes: {max_share: 0.8}")
	begun, err := r.Begin(t.Context(), burying)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err == nil {
		t.Fatal("Do() = nil though the source is down")
	}
	first := f.report(begun.ID())
	if n := first.Orphaned; n+first.Deletes.Present != 64 || first.Deletes.Tombstones != n || first.Complete || len(f.sent()) != n {
		t.Fatalf("report %+v %+v, want 64 asked for before the source went down", first.Counts, first.Deletes)
	}
	f.mu.Lock()
	down = false
	f.mu.Unlock()
	f.pass(time.Hour)
	pages := len(f.shop.requests())
	rep := f.scan(r, burying)
	if rep.Orphaned != 75 || rep.Deletes.Present != 75 || rep.Deletes.Tombstones != 75 || !rep.Complete ||
		rep.Continues != begun.ID() || len(f.sent()) != 75 {
		t.Errorf("report %+v %+v, want 75 buried and 75 there, each once", rep.Counts, rep.Deletes)
	}
	if n := len(f.shop.requests()); n != pages {
		t.Errorf("%d pages were read again", n-pages)
	}
}

// A tombstone is no match for a record that was seen alive later, and the same
// record can be buried again.
func TestRecordThatComesBackIsNoOrphan(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.hold(12)
	f.shop.remove("o005")
	f.scan(f.scanner(ascending), burying)
	f.shop.put("o005", noon.Add(time.Minute))
	f.saw("o005", noon.Add(time.Minute), false)
	f.pass(time.Hour)
	if rep := f.scan(f.scanner(ascending), burying); rep.Deletes.Held != 12 || rep.Deletes.Unlisted != 0 {
		t.Errorf("found %+v, want 12 held and listed", rep.Deletes)
	}
	f.shop.remove("o005")
	f.pass(time.Hour)
	rep := f.scan(f.scanner(ascending), burying)
	if orphansOf(rep) != "o005" || f.sentIDs() != "o005 o005" {
		t.Errorf("orphans %q, sent %q, want it buried again", orphansOf(rep), f.sentIDs())
	}
	sent := f.sent()
	if a, b := sent[0].Header.Get(event.HeaderID), sent[1].Header.Get(event.HeaderID); a == b {
		t.Errorf("both tombstones have the id %s", a)
	}
}

// A record is gone since a time by the source's clock, whatever this process's
// says: with one that is ahead it would stay deleted when it comes back.
func TestTombstonesAreOfTheSourcesClock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.shop.now = func() time.Time { return f.clock().Add(-time.Hour) }
	f.hold(12)
	f.shop.remove("o003")
	f.scan(f.scanner(ascending), burying)
	sent := f.sent()
	if len(sent) != 1 {
		t.Fatalf("sent %s, want o003", f.sentIDs())
	}
	e, err := event.FromHeader(sent[0].Header)
	// The source tells its clock in seconds.
	if off := e.ObservedAt.Sub(f.shop.now()).Abs(); err != nil || off > time.Minute {
		t.Errorf("gone at %s, which is %s off the source's clock (%v)", e.ObservedAt, off, err)
	}
}

// Lists in slices of time are read from the day that the file names.
func TestScanInSlices(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(12)
	f.shop.remove("o005")
	const slices = "since: updated_after, until: until, order: ascending, items: orders, next: cursor, start: 1h, slice: 24h"
	rep := f.scan(f.scanner(slices+", deletes: {since: 2026-11-23}"), onDemand)
	if from := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC); !rep.From.Equal(from) || orphansOf(rep) != "o005" {
		t.Errorf("from %s, orphans %q, want %s and o005", rep.From, orphansOf(rep), from)
	}
	k := key
	k.Work = cursor.Deletes
	if _, err := run.New(run.Config{Key: k, Resource: f.resource(slices)}, run.Deps{}); err == nil || !strings.Contains(err.Error(), "deletes.since is missing") {
		t.Errorf("New() = %v, want since missed", err)
	}
}

// Two accounts that have records of the same ids don't touch each other.
func TestOrphansAreOfOneAccount(t *testing.T) {
	t.Parallel()
	f := setup(t)
	day := noon.Add(-24 * time.Hour)
	north, south := key, key
	north.Account, south.Account = "north", "a.b/c"
	scanners := map[string]*run.Runner{}
	for _, k := range []cursor.Key{north, south} {
		f.shop = &shop{now: f.clock, orders: map[string]order{}}
		srv := httptest.NewServer(f.shop)
		t.Cleanup(srv.Close)
		f.base = srv.URL
		for _, id := range all(12) {
			f.shop.put(id, day)
			f.enriched(event.Event{
				ID: "hook " + id, Source: "orders", Account: k.Account, Type: "order.paid", Origin: event.Webhook, Resource: "order",
				RecordID: id, Version: event.TimeVersion(day), ObservedAt: day,
			})
		}
		if k == north {
			f.shop.remove("o003")
		}
		k.Work = cursor.Deletes
		scanners[k.Account] = f.runnerOf(k, ascending)
	}
	if rep := f.scan(scanners[south.Account], burying); rep.Orphaned != 0 || rep.Deletes.Held != 12 || rep.Deletes.Unlisted != 0 {
		t.Errorf("south %+v", rep.Deletes)
	}
	if rep := f.scan(scanners[north.Account], burying); orphansOf(rep) != "o003" || rep.Account != "north" || rep.Deletes.Held != 12 {
		t.Errorf("north %+v", rep.Deletes)
	}
	if sent := f.sent(); len(sent) != 1 || sent[0].Subject != "tercel.raw.orders.north.order.reconciled" {
		t.Errorf("%d tombstones, want north's alone", len(sent))
	}
}

// A dry run leaves the scan alone that is under way.
func TestDryScanLeavesTheOtherAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(20)
	f.shop.remove("o013")
	f.shop.before(func(int) { f.pass(time.Minute) })
	r := f.scanner(ascending)
	f.killAt(r, burying, 5)
	before := f.scanCursor()
	if rep := f.scan(r, dryRun); orphansOf(rep) != "o013" || rep.Pages != 10 {
		t.Errorf("dry run %+v, want o013 orphaned of ten pages", rep.Counts)
	}
	if c := f.scanCursor(); !reflect.DeepEqual(c, before) {
		t.Errorf("cursor %+v, want it as it was: %+v", c, before)
	}
	asked := len(f.shop.requests())
	if rep := f.scan(r, burying); orphansOf(rep) != "o013" || len(f.shop.requests())-asked != 5 {
		t.Errorf("%+v after %d pages, want o013 after the five that are left", rep.Counts, len(f.shop.requests())-asked)
	}
}
