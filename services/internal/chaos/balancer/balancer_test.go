package balancer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/balancer"
	"github.com/tercelhq/tercel/services/internal/process"
)

// backend answers with its name, and is ready when it is told to be.
func backend(t *testing.T, b *balancer.Balancer, name string) *atomic.Bool {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	t.Cleanup(srv.Close)
	ready := &atomic.Bool{}
	ready.Store(true)
	b.Add(srv.Listener.Addr().String(), func(context.Context) error {
		if !ready.Load() {
			return errors.New("not ready")
		}
		return nil
	})
	return ready
}

// answerers are who answer ten requests.
func answerers(t *testing.T, b *balancer.Balancer) map[string]int {
	t.Helper()
	who := map[string]int{}
	for range 10 {
		resp, err := http.Get(b.URL())
		if err != nil {
			t.Fatal(err)
		}
		var name string
		_, _ = fmt.Fscan(resp.Body, &name)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			name = resp.Status
		}
		who[name]++
	}
	return who
}

func TestRequestsGoToWhoIsReady(t *testing.T) {
	t.Parallel()
	b := balancer.Start()
	defer b.Close()
	if who := answerers(t, b); who["502 Bad Gateway"] != 10 || b.Failed() != 10 {
		t.Errorf("without backends: %v, %d failed", who, b.Failed())
	}
	one, _ := backend(t, b, "one"), backend(t, b, "two")
	if who := answerers(t, b); who["one"] != 5 || who["two"] != 5 {
		t.Errorf("two are ready: %v", who)
	}
	settles := func(want map[string]int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := process.Await(ctx, func(context.Context) error {
			if who := answerers(t, b); fmt.Sprint(who) != fmt.Sprint(want) {
				return fmt.Errorf("%v, want %v", who, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	one.Store(false)
	settles(map[string]int{"two": 10})
	one.Store(true)
	settles(map[string]int{"one": 5, "two": 5})
	if b.Failed() != 10 {
		t.Errorf("%d failed, want those of the beginning", b.Failed())
	}
}
