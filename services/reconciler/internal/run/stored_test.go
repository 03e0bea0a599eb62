package run_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Promises 6 and 10: a window with more triggers than may be kept in memory is
// compared all the same, and comes to the same result: also where triggers came
// late, say a time of their own, or are in the other stream alone.
func TestPromise10EventsOfAWindowWithMoreTriggersThanAreKept(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][3]string{
		"events that say when they happened": {stripe, "start: 24h", "invoice.paid"},
		"events that don't":                  {github, `list: "` + deliveries + `"`, "issues.opened"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupEvents(t, source[0], source[1])
			rnd := rand.New(rand.NewPCG(4, 4))
			const n = 60
			var arrived []listed
			missed := 0
			for i := range n {
				e := listed{id: fmt.Sprint("evt_", i), typ: source[2], at: f.now.Add(-20*time.Hour + time.Duration(i)*19*time.Minute).Truncate(time.Second), body: fmt.Sprintf(`{"n":%d}`, i)}
				f.book.add(e)
				switch rnd.IntN(4) {
				case 0:
					missed++
				case 1: // by the time that its webhook tells it is far away
					e.at = e.at.Add(time.Duration(rnd.IntN(40)-20) * time.Hour)
					arrived = append(arrived, e)
				default:
					arrived = append(arrived, e)
				}
			}
			rnd.Shuffle(len(arrived), func(i, j int) { arrived[i], arrived[j] = arrived[j], arrived[i] })
			through := arrived[:len(arrived)/3]
			f.arrive(through...)
			for _, e := range through {
				f.enrichedOf(e)
			}
			f.purge(topology.StreamRaw)
			f.arrive(arrived[len(through):]...)
			for _, most := range []int{1000, len(arrived), len(arrived) - 1, 7, 1} {
				begun, err := f.runner().Begin(t.Context(), dryRun)
				if err != nil {
					t.Fatal(err)
				}
				begun.SetStored(most)
				if err := begun.Do(); err != nil {
					t.Fatal(err)
				}
				if rep := lastReport(t, f.js, f.key, begun.ID()); rep.Listed != n || rep.Missed != missed || rep.Matched != n-missed || rep.Sets.Held.Records != n-missed {
					t.Errorf("with room for %d of %d triggers: %+v, want %d missed of %d", most, len(arrived), rep.Counts, missed, n)
				}
			}
			// What comes while it works is no gap either.
			late := listed{id: "late", typ: source[2], at: f.now.Add(-30 * time.Minute).Truncate(time.Second), body: `{"late":1}`}
			f.book.add(late)
			f.arriveBefore(late)
			begun, err := f.runner().Begin(t.Context(), demand)
			if err != nil {
				t.Fatal(err)
			}
			begun.SetStored(2)
			if err := begun.Do(); err != nil {
				t.Fatal(err)
			}
			if rep := lastReport(t, f.js, f.key, begun.ID()); rep.Missed != missed || rep.Matched != n-missed+1 || rep.Repaired != missed {
				t.Errorf("report %+v, want %d missed and repaired and the late one matched", rep.Counts, missed)
			}
		})
	}
}
