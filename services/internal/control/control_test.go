package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/control"
)

// serve runs begin on a connection of its own until the test ends.
func serve(t *testing.T, s *natstest.Server, begin func(control.Request) (control.Started, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended, nc := make(chan error, 1), s.Connect()
	go func() {
		ended <- control.ServeReconcile(ctx, nc, func(ctx context.Context, r control.Request) (control.Started, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				return control.Started{}, errors.New("the work has no bound")
			}
			return begin(r)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeReconcile() = %v", err)
		}
	})
}

// ask repeats the request until somebody answers.
func ask(t *testing.T, nc *nats.Conn, req control.Request) (control.Started, error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		started, err := control.RunReconcile(t.Context(), nc, req)
		if !errors.Is(err, control.ErrNobody) || time.Now().After(end) {
			return started, err
		}
	}
}

func TestRequestIsAnsweredByOneReplica(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	calls := make(chan control.Request, 10)
	begin := func(r control.Request) (control.Started, error) {
		calls <- r
		return control.Started{Run: "r1", Source: r.Source, Account: "_", Resource: r.Resource}, nil
	}
	serve(t, s, begin)
	serve(t, s, begin)
	want := control.Request{Source: "orders", Resource: "order", DryRun: true}
	got, err := ask(t, s.Connect(), want)
	if err != nil || got.Run != "r1" || got.Account != "_" {
		t.Fatalf("RunReconcile() = %+v, %v", got, err)
	}
	if r := <-calls; r != want || len(calls) != 0 {
		t.Errorf("replicas got %+v and %d more, want one %+v", r, len(calls), want)
	}
}

func TestErrorsReachWhoeverAsked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ begin, want error }{
		"unknown": {fmt.Errorf("orders/x: %w: known are orders/order", control.ErrUnknown), control.ErrUnknown},
		"running": {fmt.Errorf("%w by host/1", control.ErrRunning), control.ErrRunning},
		"other":   {errors.New("disk on fire"), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t, false)
			serve(t, s, func(control.Request) (control.Started, error) { return control.Started{}, tt.begin })
			_, err := ask(t, s.Connect(), control.Request{})
			if err == nil || err.Error() != tt.begin.Error() || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("RunReconcile() = %v, want %v", err, tt.begin)
			}
		})
	}
}

func TestNobodyThereIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	if _, err := control.RunReconcile(t.Context(), natstest.Start(t, false).Connect(), control.Request{}); !errors.Is(err, control.ErrNobody) {
		t.Errorf("RunReconcile() = %v, want ErrNobody", err)
	}
}

func TestRubbishIsAnsweredAndNotActedOn(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	serve(t, s, func(r control.Request) (control.Started, error) {
		if r != (control.Request{Source: "probe"}) {
			t.Errorf("begin was called with %+v", r)
		}
		return control.Started{}, nil
	})
	nc := s.Connect()
	if _, err := ask(t, nc, control.Request{Source: "probe"}); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"", "x", "[]", `{"source":1}`, `{"sauce":"orders"}`, `{"source":"a","source":"b"}`} {
		m, err := nc.Request("tercel.control.reconcile.run", []byte(data), 10*time.Second)
		if err != nil || !strings.Contains(string(m.Data), "want a JSON object") {
			t.Errorf("%q is answered %v, %v", data, m, err)
		}
	}
}

// A request that waits behind others until whoever asked has given up isn't acted on:
// they may have asked again.
func TestRequestThatWaitedTooLongIsNotBegun(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	askOnce, serve := control.ReconcileWithin(2 * time.Second)
	begun, release := make(chan string, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended, server := make(chan error, 1), s.Connect()
	go func() {
		ended <- serve(ctx, server, func(_ context.Context, r control.Request) (control.Started, error) {
			if begun <- r.Source; r.Source == "slow" {
				<-release
			}
			return control.Started{Run: "r1"}, nil
		})
	}()
	nc := s.Connect()
	ask := func(source string, enough func(error) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			_, err := askOnce(t.Context(), nc, control.Request{Source: source})
			if enough(err) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v", source, err)
			}
		}
	}
	gaveUp := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
	ask("slow", gaveUp)
	ask("behind it", gaveUp)
	ask("later", gaveUp) // meanwhile the one before it has waited for long, whenever it came
	close(release)
	ask("next", func(err error) bool { return err == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serve() = %v", err)
	}
	close(begun)
	for source := range begun {
		if source == "behind it" {
			t.Error("what nobody waited for any more was begun")
		}
	}
}
