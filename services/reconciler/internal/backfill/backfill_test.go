package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/backfill"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// asked tells which resources are backfilled, none of which can be had.
type asked chan string

func (a asked) Accounts(ctx context.Context, _, resource string) ([]string, error) {
	select {
	case a <- resource:
	case <-ctx.Done():
	}
	return nil, errors.New("there are none")
}

func (asked) Runner(cursor.Key) (*run.Runner, error) { return nil, errors.New("there is none") }

func (asked) Canceller(cursor.Key) *run.Runner { return nil }

// wait returns once a resource is asked for.
func (a asked) wait(t *testing.T, resource string) {
	t.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case got := <-a:
			if got == resource {
				return
			}
		case <-late:
			t.Fatalf("the backfill of %s is not worked on", resource)
		}
	}
}

// follow runs a service until the test ends.
func follow(t *testing.T, js jetstream.JetStream, log *slog.Logger) asked {
	t.Helper()
	a, pauses := make(asked), cursor.NewPauses(js, slog.New(slog.DiscardHandler))
	s := backfill.New(backfill.Config{Rate: 1, Slices: 1, LeaseTTL: 5 * time.Second}, backfill.Deps{
		JetStream: js, Resources: a, Pauses: pauses, Log: log, Now: time.Now,
	})
	s.WatchFor(time.Second)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { pauses.Run(ctx) })
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return a
}

// ensure makes what backfills need.
func ensure(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, js jetstream.JetStream, resource string) {
	t.Helper()
	store, err := cursor.OpenBackfills(t.Context(), js)
	if err == nil {
		_, err = store.Save(t.Context(), cursor.Backfill{
			ID: "of" + resource, Source: "orders", Resource: resource, To: time.Now(), Slices: 1, Rate: 1, State: cursor.Running,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A backfill that is begun after the bucket was made anew is worked on, although
// the watch that saw the old one waits for entries behind those that were in it.
func TestBackfillIsSeenAfterTheBucketWasMadeAnew(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	ensure(t, js)
	kv, err := js.KeyValue(t.Context(), topology.BucketCursors)
	for i := 0; err == nil && i < 100; i++ {
		_, err = kv.PutString(t.Context(), fmt.Sprintf("other.%d", i), "{}")
	}
	if err != nil {
		t.Fatal(err)
	}
	a := follow(t, js, slog.New(slog.DiscardHandler))
	begin(t, js, "order")
	a.wait(t, "order")
	if err = js.DeleteKeyValue(t.Context(), topology.BucketCursors); err != nil {
		t.Fatal(err)
	}
	ensure(t, js)
	begin(t, js, "refund")
	a.wait(t, "refund")
}

// lines are those of a log that are not of one backfill.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	if text := string(p); !strings.Contains(text, "source=") {
		l <- text
	}
	return len(p), nil
}

// While backfills can't be followed none is begun or heeds a change, which the log
// tells.
func TestLogTellsThatBackfillsCannotBeFollowed(t *testing.T) {
	t.Parallel()
	js, log := natstest.Run(t), make(lines, 100)
	ensure(t, js)
	a := follow(t, js, slog.New(slog.NewTextHandler(log, nil)))
	begin(t, js, "order")
	a.wait(t, "order")
	if err := js.DeleteKeyValue(t.Context(), topology.BucketCursors); err != nil {
		t.Fatal(err)
	}
	wait := func(text string) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case line := <-log:
				if strings.Contains(line, text) {
					return
				}
			case <-late:
				t.Fatalf("the log does not tell %q", text)
			}
		}
	}
	wait("backfills can't be followed")
	ensure(t, js)
	begin(t, js, "refund")
	a.wait(t, "refund")
	wait("backfills are followed again")
}
