package enricher_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
)

// A source that an operator has paused stays so, although its API then asks for a
// shorter pause in the answer to what was in hand.
func TestAnOutageDoesNotEndAnOperatorsPause(t *testing.T) {
	t.Parallel()
	asked, paused := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	f := setup(t, twoSources, func(w http.ResponseWriter, r *http.Request) {
		once()
		select {
		case <-paused:
		case <-r.Context().Done():
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	stop := f.start()
	f.orders(0, 1, "_")
	<-asked
	if err := topology.PauseSource(t.Context(), f.js, "orders"); err != nil {
		t.Fatal(err)
	}
	close(paused)
	stop() // once what is in hand is done
	if info := f.consumer("orders"); !topology.PausedByHand(info) {
		t.Errorf("the source is paused for %s, want until it is resumed", info.PauseRemaining)
	}
}

// A source is paused for as long as its API wants, by the server's clock: that of
// the enricher may be hours off.
func TestAPauseIsAsLongAsTheAPIWantsWhateverTheClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"ahead": 10 * time.Hour, "behind": -10 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, twoSources, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
			})
			f.now = func() time.Time { return time.Now().Add(off) }
			f.start()
			f.orders(0, 1, "_")
			f.eventually("a pause", func() bool { return f.consumer("orders").Paused })
			if left := f.consumer("orders").PauseRemaining; left > time.Hour || left < 50*time.Minute {
				t.Errorf("the source is paused for %s, want an hour", left)
			}
		})
	}
}
