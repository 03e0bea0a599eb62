package run_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Whether a scan deletes is said by whoever began it, and by nobody who goes on with
// it. Who asks for another kind has it begun anew.
func TestScanIsGoneOnWithAsItWasBegun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		first, second     run.Options
		read              int // pages, when the first was killed
		pages, tombstones int // of the second
	}{
		"one that deletes, by schedule":                   {burying, scheduled, 5, 5, 2},
		"one that deletes and has read nothing":           {burying, scheduled, 0, 10, 2},
		"one that deletes, when it is asked for again":    {burying, burying, 5, 5, 2},
		"one that deletes, when one is that reports":      {burying, onDemand, 5, 10, 0},
		"one that reports, when one that deletes is":      {scheduled, burying, 5, 10, 2},
		"one that reports, when it is asked for":          {scheduled, onDemand, 5, 5, 0},
		"one that reports and was asked for, by schedule": {onDemand, scheduled, 5, 5, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.hold(20)
			f.shop.remove("o003", "o013")
			f.shop.put("new1", noon.Add(-time.Hour)) // so that there are ten pages
			f.shop.put("new2", noon.Add(-time.Hour))
			f.shop.before(func(int) { f.pass(time.Minute) }) // each page is kept
			r := f.scanner(ascending + ", deletes: {tombstone: " + strconv.FormatBool(tt.first == onDemand) + "}")
			f.killAt(r, tt.first, tt.read)
			before := len(f.shop.requests())
			rep := f.scan(r, tt.second)
			if got := orphansOf(rep); got != "o003 o013" || rep.Deletes.Tombstones != tt.tombstones || !rep.Complete {
				t.Errorf("report %+v %+v, want two orphans and %d tombstones", rep.Counts, rep.Deletes, tt.tombstones)
			}
			if n := len(f.shop.requests()) - before; n != tt.pages || rep.Pages != 10 {
				t.Errorf("%d pages were read and %d are in the report, want %d and 10", n, rep.Pages, tt.pages)
			}
		})
	}
}

// A scan that deletes has all that is gone deleted, also what one before it only
// reported.
func TestScanThatDeletesPassesNothingOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	f.hold(200)
	f.shop.remove(all(75)...)
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
	begun, err := r.Begin(t.Context(), scheduled)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err == nil {
		t.Fatal("Do() = nil though the source is down")
	}
	if first := f.report(begun.ID()); first.Orphaned != 64 || len(f.sent()) != 0 {
		t.Fatalf("report %+v %+v, want 64 reported before the source went down", first.Counts, first.Deletes)
	}
	f.mu.Lock()
	down = false
	f.mu.Unlock()
	f.pass(time.Hour)
	rep := f.scan(r, burying)
	if rep.Orphaned != 75 || rep.Deletes.Tombstones != 75 || len(f.sent()) != 75 || !rep.Complete || rep.Continues != begun.ID() {
		t.Errorf("report %+v %+v and %d tombstones, want all 75", rep.Counts, rep.Deletes, len(f.sent()))
	}
}

// A scan that has failed for good is begun anew when its time has come again, with
// the records that are held by then: in whichever half it failed.
func TestScanThatFailedBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(f *fixture){
		"while it listed": func(f *fixture) {
			f.shop.troubled(func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n == 4 {
					w.WriteHeader(http.StatusUnprocessableEntity)
				}
				return n == 4
			})
		},
		"while it asked": func(f *fixture) {
			f.shop.getting(func(_ string, w http.ResponseWriter) bool {
				w.WriteHeader(http.StatusUnprocessableEntity)
				return true
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.hold(20)
			f.shop.remove("o001")
			fail(f)
			r := f.scanner(ascending)
			failing, err := r.Begin(t.Context(), burying)
			if err != nil {
				t.Fatal(err)
			}
			if err := failing.Do(); err == nil {
				t.Fatal("Do() = nil, want the source's refusal")
			}
			f.shop.getting(nil)
			f.shop.troubled(nil)
			f.saw("since", noon.Add(24*time.Hour), false)
			f.pass(8 * 24 * time.Hour)
			rep := f.scan(r, burying)
			if got := orphansOf(rep); got != "o001 since" || f.sentIDs() != got || rep.Continues != failing.ID() || !rep.Complete {
				t.Errorf("report %+v %+v, want both orphaned", rep.Counts, rep.Deletes)
			}
			if !rep.StartedAt.Equal(f.clock()) || rep.Listed != 19 || rep.SkippedYoung != 0 {
				t.Errorf("%d listed from %s on, %d of them young, want 19 from %s", rep.Listed, rep.StartedAt, rep.SkippedYoung, f.clock())
			}
		})
	}
}
