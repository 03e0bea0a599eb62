package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/control"
)

func TestBackfillRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	nc := s.Connect()
	if _, err := control.Backfill(t.Context(), nc, control.BackfillRequest{Action: control.Resume, ID: "b1"}); !errors.Is(err, control.ErrNobody) {
		t.Errorf("Backfill() without a reconciler = %v, want %v", err, control.ErrNobody)
	}
	asked := make(chan control.BackfillRequest, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended, server := make(chan error, 1), s.Connect()
	go func() {
		ended <- control.ServeBackfills(ctx, server, func(ctx context.Context, r control.BackfillRequest) (cursor.Backfill, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				return cursor.Backfill{}, errors.New("the work has no bound")
			}
			asked <- r
			switch r.Source {
			case "unknown":
				return cursor.Backfill{}, fmt.Errorf("%w %q", control.ErrUnknown, r.Resource)
			case "ranged":
				return cursor.Backfill{}, fmt.Errorf("backfill: %w: no filter", control.ErrRange)
			case "busy":
				return cursor.Backfill{}, fmt.Errorf("backfill: %w: b2", control.ErrRunning)
			case "broken":
				return cursor.Backfill{}, errors.New("bad \xff text")
			}
			return cursor.Backfill{ID: "b1", Source: r.Source, From: r.From}, nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeBackfills() = %v", err)
		}
	})
	want := control.BackfillRequest{
		Action: control.Start, Source: "shop", Resource: "order", Account: "north", From: time.Unix(1e9, 0).UTC(), To: time.Unix(2e9, 0).UTC(),
		Slices: 3, Rate: 50, DryRun: true,
	}
	var b cursor.Backfill
	var err error
	for end := time.Now().Add(time.Minute); ; {
		if b, err = control.Backfill(t.Context(), nc, want); !errors.Is(err, control.ErrNobody) || time.Now().After(end) {
			break
		}
	}
	if err != nil || b.ID != "b1" || !b.From.Equal(want.From) {
		t.Fatalf("Backfill() = %+v, %v", b, err)
	}
	if got := <-asked; got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	for source, kind := range map[string]error{"unknown": control.ErrUnknown, "ranged": control.ErrRange, "busy": control.ErrRunning, "broken": nil} {
		_, err := control.Backfill(t.Context(), nc, control.BackfillRequest{Action: control.Start, Source: source})
		if err == nil || kind != nil && !errors.Is(err, kind) || kind == nil && (errors.Is(err, control.ErrUnknown) || errors.Is(err, control.ErrRange)) {
			t.Errorf("%s: Backfill() = %v, want %v", source, err, kind)
		}
	}
	for _, text := range []string{"", "[]", `{"action":"start","acount":"x"}`, "\xff"} {
		m := nats.NewMsg("tercel.control.reconcile.backfill")
		m.Data = []byte(text)
		answer, err := nc.RequestMsg(m, 10*time.Second)
		if err != nil || !strings.Contains(string(answer.Data), "want a JSON object with action") {
			t.Errorf("%q is answered %s, %v", text, answer.Data, err)
		}
	}
}
