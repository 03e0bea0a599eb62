package run_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/destination"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

var (
	scheduled = run.Options{Trigger: report.Schedule}
	onDemand  = run.Options{Trigger: report.Demand}
	burying   = run.Options{Trigger: report.Demand, Tombstone: true}
)

// hold makes n orders that source and pipeline have had for a day, o000 first.
func (f *fixture) hold(n int) {
	f.t.Helper()
	for i := range n {
		id, at := fmt.Sprintf("o%03d", i), noon.Add(-24*time.Hour+time.Duration(i)*time.Second)
		f.shop.put(id, at)
		f.saw(id, at, false)
	}
}

// scan makes a run that must not fail and returns its report.
func (f *fixture) scan(r *run.Runner, o run.Options) report.Report {
	f.t.Helper()
	begun, err := r.Begin(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := begun.Do(); err != nil {
		f.t.Fatal(err)
	}
	return f.report(begun.ID())
}

// orphansOf lists the ids that a report calls orphaned.
func orphansOf(rep report.Report) string {
	var ids []string
	for _, rec := range rep.Records {
		if rec.Verdict == report.Orphaned {
			ids = append(ids, rec.ID)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// Records that are held and gone at the source are found. They are only reported,
// until tombstones are asked for.
func TestOrphansAreFoundAndBuriedWhenAskedTo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(12)
	f.shop.remove("o003", "o011")

	reported := f.scan(f.scanner(ascending), onDemand)
	if got := orphansOf(reported); got != "o003 o011" || reported.Orphaned != 2 || !reported.Complete || len(f.sent()) != 0 {
		t.Fatalf("report %+v and %d triggers, want o003 and o011 orphaned, and none sent", reported, len(f.sent()))
	}
	if got, want := *reported.Deletes, (report.Deletes{Held: 12, Unlisted: 2}); got != want || reported.Listed != 10 {
		t.Errorf("found %+v of %d listed, want %+v of 10", got, reported.Listed, want)
	}
	if got := f.shop.gets(); got != "o003 o009 o011" && got != "o003 o010 o011" {
		t.Errorf("asked for %s, want the two and one that was listed", got)
	}

	f.enrich()
	f.pass(8 * 24 * time.Hour)
	rep := f.scan(f.scanner(ascending+", deletes: {tombstone: true}"), scheduled)
	if got := orphansOf(rep); got != "o003 o011" || rep.Deletes.Tombstones != 2 || rep.Repaired != 0 || !rep.Records[0].Repaired {
		t.Errorf("report %+v, want two tombstones", rep)
	}
	sent := f.sent()
	if len(sent) != 2 || f.sentIDs() != "o003 o011" {
		t.Fatalf("sent %s, want o003 and o011", f.sentIDs())
	}
	for _, m := range sent {
		e, err := event.FromHeader(m.Header)
		if err != nil || !e.Deleted || e.Version != "" || e.ObservedAt.IsZero() || e.Origin != event.Reconcile || e.Resource != "order" ||
			string(m.Data) != "null" || !strings.HasPrefix(m.Subject, "tercel.raw.orders._.order.reconciled") {
			t.Errorf("trigger %s %+v %q, %v; want a tombstone", m.Subject, e, m.Data, err)
		}
	}

	f.pass(time.Hour)
	again := f.scan(f.scanner(ascending), burying)
	if again.Orphaned != 0 || again.Deletes.Unlisted != 0 || again.Deletes.Held != 10 || len(f.sent()) != 2 || !again.Complete {
		t.Errorf("the next scan found %+v", again.Deletes)
	}
}

// No scan buries anything unless the whole list was read, the source says of each
// record that it is gone, and not too many are.
func TestNothingIsBuriedThatMayBeThere(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		deletes string // of the file
		set     func(f *fixture)
		found   report.Deletes
		stopped string
		fails   bool
		orphans string
	}{
		"an empty list": {
			deletes: "{max_share: 1}",
			set:     func(f *fixture) { f.shop.remove(all(20)...) },
			found:   report.Deletes{Held: 20, Unlisted: 20}, stopped: "listed nothing",
		},
		"an empty list of few records": {
			set:   func(f *fixture) { f.shop.remove(all(20)...) },
			found: report.Deletes{Held: 20, Unlisted: 20}, stopped: "listed nothing",
		},
		"too great a share": {
			set:   func(f *fixture) { f.shop.remove(all(11)...) },
			found: report.Deletes{Held: 20, Unlisted: 11}, stopped: "11 of the 20 records that the pipeline holds were not listed, and at most 10 may be",
		},
		"just not too great a share": {
			set:   func(f *fixture) { f.shop.remove(all(10)...) },
			found: report.Deletes{Held: 20, Unlisted: 10, Tombstones: 10}, orphans: strings.Join(all(10), " "),
		},
		"a share that the file forbids": {
			deletes: "{allow: 0, max_share: 0.1}",
			set:     func(f *fixture) { f.shop.remove(all(3)...) },
			found:   report.Deletes{Held: 20, Unlisted: 3}, stopped: "at most 2 may be",
		},
		"a list that leaves records out": {
			set:   func(f *fixture) { f.shop.hide("o001", "o002", "o003"); f.shop.remove("o004") },
			found: report.Deletes{Held: 20, Unlisted: 4, Present: 3, Tombstones: 1}, orphans: "o004",
		},
		"a list that leaves too many out": {
			set:   func(f *fixture) { f.shop.hide(all(15)...) },
			found: report.Deletes{Held: 20, Unlisted: 15}, stopped: "15 of the 20",
		},
		"a get that finds nothing": {
			set: func(f *fixture) {
				f.shop.hide("o001")
				f.shop.getting(func(_ string, w http.ResponseWriter) bool { w.WriteHeader(http.StatusNotFound); return true })
			},
			found: report.Deletes{Held: 20, Unlisted: 1}, stopped: "get finds none of the records that were listed last",
		},
		"a get of another record": {
			set: func(f *fixture) {
				f.shop.remove("o001", "o002")
				f.shop.getting(func(id string, w http.ResponseWriter) bool {
					if id == "o001" {
						_, _ = w.Write([]byte(`{"id": "o009", "updated_at": "2026-11-26T00:00:00Z"}`))
					}
					return id == "o001"
				})
			},
			found: report.Deletes{Held: 20, Unlisted: 2, Unchecked: 1, Tombstones: 1}, orphans: "o002",
		},
		"a get that is refused": {
			set: func(f *fixture) {
				f.shop.remove("o001", "o002")
				f.shop.getting(func(id string, w http.ResponseWriter) bool {
					if id == "o001" {
						w.WriteHeader(http.StatusUnprocessableEntity)
					}
					return id == "o001"
				})
			},
			found: report.Deletes{Held: 20, Unlisted: 2, Unchecked: 1, Tombstones: 1}, orphans: "o002",
		},
		"a get that fails": {
			set: func(f *fixture) {
				f.shop.remove("o001", "o002")
				f.shop.getting(func(id string, w http.ResponseWriter) bool {
					if id == "o001" {
						w.WriteHeader(http.StatusInternalServerError)
					}
					return id == "o001"
				})
			},
			found: report.Deletes{Held: 20, Unlisted: 2, Unchecked: 1, Tombstones: 1}, orphans: "o002",
		},
		"gets that all fail": {
			set: func(f *fixture) {
				f.shop.remove("o001", "o002")
				f.shop.getting(func(_ string, w http.ResponseWriter) bool {
					w.WriteHeader(http.StatusInternalServerError)
					return true
				})
			},
			fails: true,
		},
		"a page that can't be had": {
			set: func(f *fixture) {
				f.shop.remove("o001", "o019")
				f.shop.troubled(func(n int, w http.ResponseWriter, _ *http.Request) bool {
					if n >= 4 {
						w.WriteHeader(http.StatusBadRequest)
					}
					return n >= 4
				})
			},
			fails: true,
		},
		"a record without an id": {
			set: func(f *fixture) {
				f.shop.remove("o001")
				f.shop.put("", noon.Add(-30*time.Hour))
			},
			found: report.Deletes{Held: 20, Unlisted: 1}, stopped: "the ids of 1 listed records could not be read",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.hold(20)
			tt.set(f)
			deletes := tt.deletes
			if deletes == "" {
				deletes = "{}"
			}
			begun, err := f.scanner(ascending+", deletes: "+deletes).Begin(t.Context(), burying)
			if err != nil {
				t.Fatal(err)
			}
			if err := begun.Do(); (err != nil) != tt.fails {
				t.Fatalf("Do() = %v, want an error: %t", err, tt.fails)
			}
			rep := f.report(begun.ID())
			if got := f.sentIDs(); got != tt.orphans || orphansOf(rep) != tt.orphans {
				t.Errorf("sent %q, reported %q, want %q", got, orphansOf(rep), tt.orphans)
			}
			if tt.fails {
				if rep.Complete || rep.Error == "" {
					t.Errorf("report %+v, want one of a failure", rep)
				}
				return
			}
			got := *rep.Deletes
			got.Stopped = ""
			if got != tt.found || !strings.Contains(rep.Deletes.Stopped, tt.stopped) || (rep.Deletes.Stopped == "") != (tt.stopped == "") {
				t.Errorf("found %+v, want %+v stopped by %q", *rep.Deletes, tt.found, tt.stopped)
			}
			if want := tt.stopped == "" && tt.found.Unchecked == 0; rep.Complete != want || begun.Stopped() != rep.Deletes.Stopped {
				t.Errorf("complete %t, want %t; stopped %q", rep.Complete, want, begun.Stopped())
			}
			if c := f.scanCursor(); c.Window != nil || !c.Through.Equal(rep.To) {
				t.Errorf("cursor %+v, want the scan ended", c.Cursor)
			}
		})
	}
}

// all are the ids of the first n records.
func all(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("o%03d", i)
	}
	return ids
}

func (f *fixture) scanCursor() cursor.Entry {
	f.t.Helper()
	s, err := cursor.Open(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	k := key
	k.Work = cursor.Deletes
	e, err := s.Load(f.t.Context(), k)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// What comes, changes or moves while the list is read is no orphan.
func TestRecordsThatMoveWhileListedAreNoOrphans(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.hold(20)
	f.shop.remove("o007")
	f.shop.before(func(n int) {
		switch n {
		case 2: // comes with a webhook, in front of the page that is read
			f.shop.put("new", noon.Add(-48*time.Hour))
			f.saw("new", noon.Add(-time.Second), false)
		case 3: // an old one without
			f.shop.put("o000", noon.Add(-48*time.Hour))
		case 4: // changes: goes to the end, behind what has settled
			f.shop.put("o012", noon)
			f.saw("o012", noon, false)
		case 5: // moves in front of what was read, which nobody told
			f.shop.put("o018", noon.Add(-47*time.Hour))
		}
	})
	rep := f.scan(f.scanner(ascending), burying)
	if got := orphansOf(rep); got != "o007" || f.sentIDs() != "o007" {
		t.Errorf("orphans %q, sent %q, want o007 alone", got, f.sentIDs())
	}
	// What has come or changed since it began isn't even asked for.
	if got, want := *rep.Deletes, (report.Deletes{Held: 21, Unlisted: 2, Present: 1, Tombstones: 1}); got != want || !rep.Complete {
		t.Errorf("found %+v, want %+v: o018 is there", got, want)
	}
}

// A list that goes up in time is read to its end: what has changed of late is at
// its end, and there.
func TestScanReadsWhatIsYoung(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(12)
	for i, id := range all(6) {
		f.shop.put(id, noon.Add(time.Duration(i)*time.Second)) // nobody told
	}
	if rep := f.scan(f.scanner(ascending), burying); rep.Deletes.Unlisted != 0 || rep.Listed != 12 || !rep.Complete {
		t.Errorf("report %+v %+v, want all 12 listed", rep.Counts, rep.Deletes)
	}
}

// One that was not listed and is there in another version is sent again.
func TestUnlistedRecordsAreRepaired(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(20)
	f.shop.hide("o004", "o005")
	f.shop.put("o004", noon.Add(-time.Hour))
	rep := f.scan(f.scanner(ascending), burying)
	if rep.Stale != 1 || rep.Matched != 1 || rep.Repaired != 1 || rep.Orphaned != 0 || f.sentIDs() != "o004" {
		t.Errorf("report %+v, sent %s, want o004 stale and sent", rep.Counts, f.sentIDs())
	}
	if m := f.sent()[0]; m.Header.Get(event.HeaderDeleted) != "" || m.Header.Get(event.HeaderOrigin) != string(event.Reconcile) {
		t.Errorf("trigger %v, want the record", m.Header)
	}
}

func TestDryScanChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(20)
	f.shop.remove("o001", "o002")
	f.shop.hide("o003")
	f.shop.put("o003", noon.Add(-time.Hour))
	before := f.keys()
	rep := f.scan(f.scanner(ascending+", deletes: {tombstone: true}"), run.Options{Trigger: report.Demand, DryRun: true, Tombstone: true})
	if orphansOf(rep) != "o001 o002" || rep.Deletes.Tombstones != 0 || rep.Stale != 1 || rep.Repaired != 0 || !rep.DryRun {
		t.Errorf("report %+v %+v", rep.Counts, rep.Deletes)
	}
	if n := len(f.sent()); n != 0 || f.keys() != before {
		t.Errorf("%d triggers, keys %s before and %s after", n, before, f.keys())
	}
}

// keys lists those of cursors and ledger.
func (f *fixture) keys() string {
	f.t.Helper()
	var keys []string
	for _, bucket := range []string{topology.BucketCursors, topology.BucketLedger} {
		kv, err := f.js.KeyValue(f.t.Context(), bucket)
		if err != nil {
			f.t.Fatal(err)
		}
		list, err := kv.ListKeys(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		for k := range list.Keys() {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// Ids that differ only in case are those of different records.
func TestOrphansAreToldApartByCase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	day := noon.Add(-24 * time.Hour)
	for _, id := range []string{"Ab", "aB", "ab", "AB", "ab ", "ab\u0000"} {
		f.shop.put(id, day)
		f.saw(id, day, false)
	}
	f.shop.remove("aB", "ab ")
	if rep := f.scan(f.scanner(ascending), burying); orphansOf(rep) != "aB ab " || rep.Deletes.Present != 0 {
		t.Errorf("orphans %q, want aB and \"ab \"", orphansOf(rep))
	}
}

// A record that is listed with the sign of one that is gone is as good as not
// listed: reconciliation doesn't bring it back, and a scan buries it.
func TestListedRecordsThatAreGone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.hold(12)
	for _, id := range []string{"o003", "o007"} {
		f.shop.mark(id, "deleted")
	}
	f.saw("o007", noon.Add(-time.Hour), true) // a webhook told of this one
	if rep := f.do(f.runner(ascending)); rep.Listed != 12 || rep.Matched != 10 || rep.Repaired != 0 {
		t.Errorf("reconciliation %+v, want it to leave both alone", rep.Counts)
	}
	if rep := f.scan(f.scanner(ascending), burying); orphansOf(rep) != "o003" || f.sentIDs() != "o003" {
		t.Errorf("orphans %q, sent %q, want o003 alone", orphansOf(rep), f.sentIDs())
	}
	f.pass(time.Hour)
	if rep := f.do(f.runner("items: orders, next: cursor")); rep.Repaired != 0 || len(f.sent()) != 1 {
		t.Errorf("reconciliation %+v, want both to stay as they are", rep.Counts)
	}
}

// What only a destination holds is an orphan too, and one that the pipeline knows
// to be deleted is deleted there again.
func TestOrphansOfDestinations(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(20)
	day := noon.Add(-24 * time.Hour)
	s := shelf{}
	for _, id := range all(20) {
		s[id] = destination.Held{ID: id, Version: event.TimeVersion(day), ObservedAt: day}
	}
	s["only here"] = destination.Held{ID: "only here", Version: event.TimeVersion(day), ObservedAt: day}
	s["deleted"] = destination.Held{ID: "deleted", Version: event.TimeVersion(day), ObservedAt: day, Deleted: true}
	s["fresh"] = destination.Held{ID: "fresh", Version: event.TimeVersion(noon), ObservedAt: noon}
	f.shelves = map[string]shelf{"warehouse": s, "empty": {}}
	f.shop.remove("o001", "o002")
	f.saw("o002", noon.Add(-time.Hour), true)
	rep := f.scan(f.scanner(ascending+", against: [ledger, destination:warehouse, destination:empty]"), burying)
	if got := orphansOf(rep); got != "o001 o002 only here" || f.sentIDs() != strings.ReplaceAll(got, "only here", "only%20here") {
		t.Errorf("orphans %q, sent %q", got, f.sentIDs())
	}
	if rep.Destinations["warehouse"].Orphaned != 3 || rep.Destinations["empty"].Orphaned != 0 || rep.Deletes.Held != 19 {
		t.Errorf("destinations %+v of %+v", rep.Destinations, rep.Deletes)
	}
	for _, rec := range rep.Records {
		if inside := rec.ID == "o001"; inside != (rec.Destination == "") || !inside && rec.Destination != "warehouse" {
			t.Errorf("record %+v, want it named for where it is", rec)
		}
	}
	// Too many at one destination are too many.
	for i := range 30 {
		id := fmt.Sprint("lost ", i)
		s[id] = destination.Held{ID: id, Version: event.TimeVersion(day), ObservedAt: day}
	}
	f.pass(time.Hour)
	rep = f.scan(f.scanner(ascending+", against: [ledger, destination:warehouse, destination:empty]"), burying)
	if !strings.Contains(rep.Deletes.Stopped, "that destination warehouse holds") || len(f.sent()) != 3 {
		t.Errorf("found %+v and sent %d, want it stopped", rep.Deletes, len(f.sent()))
	}
}

// A record whose events have left the stream is known by its hash alone: it can't
// be asked for, and so isn't buried.
func TestOrphansWithoutAnIDAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(20)
	f.do(f.runner(ascending)) // writes the ledger
	stream, err := f.js.Stream(t.Context(), topology.StreamEnriched)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	f.shop.remove("o001", "o002")
	rep := f.scan(f.scanner(ascending), burying)
	if orphansOf(rep) != "o002" || rep.Deletes.Unchecked != 1 || rep.Complete || f.sentIDs() != "o002" {
		t.Errorf("report %+v %+v, want o002 orphaned and one that has no id", rep.Counts, rep.Deletes)
	}
}

// Orphans are looked for once the resource has been reconciled, and then as often
// as the file says.
func TestScansAreDueAfterReconciliation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.hold(4)
	r := f.scanner(ascending + ", deletes: {every: 24h}")
	due, err := r.Due(t.Context())
	if err != nil || !due.After(f.clock()) {
		t.Errorf("Due() = %s, %v, want later than %s", due, err, f.clock())
	}
	f.do(f.runner(ascending))
	if due, err = r.Due(t.Context()); err != nil || due.After(f.clock()) {
		t.Errorf("Due() = %s, %v, want now", due, err)
	}
	f.scan(r, scheduled)
	if due, err = r.Due(t.Context()); err != nil || due.Sub(f.clock()) < 21*time.Hour || due.Sub(f.clock()) > 27*time.Hour {
		t.Errorf("Due() = %s, %v, want in about a day", due, err)
	}
	if _, err := r.Begin(t.Context(), scheduled); !errors.Is(err, run.ErrNotDue) {
		t.Errorf("Begin() = %v, want ErrNotDue", err)
	}
	if c := f.cursor(); c.Through.IsZero() || c.Window != nil {
		t.Errorf("reconciliation's cursor %+v, want it untouched", c.Cursor)
	}
}
