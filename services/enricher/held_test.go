package enricher_test

import (
	"net/http"
	"sync"
	"testing"

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
