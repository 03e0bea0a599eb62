package run_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
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
