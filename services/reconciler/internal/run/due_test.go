package run_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// Accounts that share a schedule begin at times of their own, which are the same
// for every replica.
func TestAccountsOfAScheduleBeginAtTimesOfTheirOwn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		every    string
		from, to time.Duration // from noon on
	}{
		"an interval": {"1h", 54 * time.Minute, 66 * time.Minute},
		"cron":        {`{cron: "0 13 * * *", jitter: 12m}`, time.Hour, 72 * time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			store, err := cursor.Open(t.Context(), f.js)
			if err != nil {
				t.Fatal(err)
			}
			const accounts, parts = 60, 4
			var begin [parts]int
			for i := range accounts {
				f.account = fmt.Sprint("a", i)
				k := key
				k.Account = f.account
				e, err := store.Load(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := store.Save(t.Context(), e, cursor.Cursor{StartedAt: noon}); err != nil { // all began at once
					t.Fatal(err)
				}
				due, err := f.runner(ascending + ", every: " + tt.every).Due(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				again, err := f.runner(ascending + ", every: " + tt.every).Due(t.Context())
				if err != nil || !again.Equal(due) {
					t.Fatalf("another replica has %s due at %s, %v; not at %s", f.account, again, err, due)
				}
				after := due.Sub(noon) - tt.from
				if after < 0 || after >= tt.to-tt.from {
					t.Fatalf("%s is due %s after noon, want %s to %s", f.account, due.Sub(noon), tt.from, tt.to)
				}
				begin[int(after*parts/(tt.to-tt.from))]++
			}
			for part, n := range begin {
				if n < accounts/parts/3 {
					t.Errorf("%d of %d accounts begin in quarter %d of the time, want about as many as in the others: %v", n, accounts, part, begin)
				}
			}
		})
	}
}

// The next run is in the cursor for everybody to see, and follows the schedule
// when that changes.
func TestNextRunIsInTheCursor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.do(f.runner(ascending))
	due := func(every string) time.Time {
		t.Helper()
		at, err := f.runner(ascending + ", every: " + every).Due(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := f.cursor().NextAt; !at.Equal(due("1h")) || at.Before(noon.Add(54*time.Minute)) {
		t.Errorf("next run at %s after it has ended, want %s", at, due("1h"))
	}
	changed := due("10h")
	if at := f.cursor().NextAt; !at.Equal(changed) || at.Before(noon.Add(9*time.Hour)) {
		t.Errorf("next run at %s after its schedule has changed, want %s", at, changed)
	}
	f.begin(f.runner(ascending)).Drop() // one that died
	if at := due("1h"); at.After(f.clock()) {
		t.Errorf("what a run has left is due at %s, want now", at)
	}
	if at := f.cursor().NextAt; !at.Equal(changed) {
		t.Errorf("next run at %s, want a cursor in hand left alone", at)
	}
}

// A runner whose clock was ahead must not keep the others from reconciling until
// their clocks have come as far: they wait as long as they would after a run of
// now, and no shorter, since that clock may still be ahead.
func TestARunOfTheFutureIsWaitedForAsIfItWereNow(t *testing.T) {
	t.Parallel()
	const ahead = 36 * time.Hour
	fails := func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	tests := map[string]struct {
		last     func(*fixture)
		from, to time.Duration // until the next run is due
	}{
		"a run that ended well": {
			func(f *fixture) { f.pass(ahead); f.do(f.runner(ascending)); f.pass(-ahead) }, 54 * time.Minute, 66 * time.Minute,
		},
		"a run during which the clock went wrong, and which failed": {func(f *fixture) {
			f.shop.troubled(fails)
			r := f.begin(f.runner(ascending))
			f.pass(ahead)
			_ = r.Do()
			f.pass(-ahead)
		}, time.Second, 5 * time.Minute},
		"clocks that differ by little": {
			func(f *fixture) { f.pass(time.Second); f.do(f.runner(ascending)); f.pass(-time.Second) }, 54 * time.Minute, 66 * time.Minute,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			tt.last(f)
			r := f.runner(ascending + ", every: 1h")
			for range 2 { // to look again puts nothing off
				due, err := r.Due(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if wait := due.Sub(f.clock()); wait < tt.from || wait > tt.to {
					t.Fatalf("the next run is due in %s, want %s to %s", wait, tt.from, tt.to)
				}
			}
			f.shop.troubled(nil)
			f.pass(tt.to)
			began, err := r.Begin(t.Context(), run.Options{Trigger: report.Schedule})
			if err != nil {
				t.Fatalf("the next run, as it is due: %v", err)
			}
			if err := began.Do(); err != nil {
				t.Error(err)
			}
		})
	}
}
