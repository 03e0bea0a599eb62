package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/control"
)

func TestRequestsAreCheckedAgainByOneIngress(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	nc := s.Connect()
	if err := control.AwaitIngress(t.Context(), nc); !errors.Is(err, control.ErrNoIngress) {
		t.Errorf("AwaitIngress() without one = %v, want %v", err, control.ErrNoIngress)
	}
	verdicts := []event.Verdict{{Check: "signature", Result: event.NotRepeated, Detail: "the credential is not stored"}, {Check: "event type", Result: event.Failed, Detail: "no kind"}}
	asked := make(chan control.VerifyRequest, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended, server := make(chan error, 1), s.Connect()
	go func() {
		ended <- control.ServeVerify(ctx, server, func(ctx context.Context, r control.VerifyRequest) (control.Verified, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				return control.Verified{}, errors.New("the work has no bound")
			}
			switch r.Sequence {
			case 0:
				return control.Verified{}, fmt.Errorf("trigger 0 is %w", control.ErrGone)
			case 2:
				return control.Verified{}, fmt.Errorf("trigger 2 %w: too old", control.ErrUnverifiable)
			case 3:
				return control.Verified{}, errors.New("bad \xff text")
			}
			asked <- r
			return control.Verified{Checks: verdicts, Sequence: 9, MsgID: "m"}, nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeVerify() = %v", err)
		}
	})
	for end := time.Now().Add(time.Minute); control.AwaitIngress(t.Context(), nc) != nil; {
		if time.Now().After(end) {
			t.Fatal("no ingress within a minute")
		}
	}
	want := control.VerifyRequest{Sequence: 1, Send: true, Destinations: "crm,lake", Of: control.Expected{
		Source: "shop", Account: "north", ID: "evt_1#7", RecordID: "7", Part: "2/3", ReceivedAt: time.Unix(1e9, 5).UTC(),
	}}
	v, err := control.Verify(t.Context(), nc, want)
	if err != nil || v.Accepted || !v.NotRepeated() || v.Sequence != 9 || v.MsgID != "m" || len(v.Checks) != 2 || v.Checks[1] != verdicts[1] {
		t.Errorf("Verify() = %+v, %v", v, err)
	}
	if got := <-asked; got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	if got, want := (&control.Refusal{Checks: v.Checks}).Error(), "not accepted: event type: no kind"; got != want {
		t.Errorf("the refusal says %q, want %q", got, want)
	}
	for sequence, kind := range map[uint64]error{0: control.ErrGone, 2: control.ErrUnverifiable, 3: nil} {
		_, err := control.Verify(t.Context(), nc, control.VerifyRequest{Sequence: sequence})
		if err == nil || kind != nil && !errors.Is(err, kind) || kind == nil && (errors.Is(err, control.ErrGone) || errors.Is(err, control.ErrUnverifiable)) {
			t.Errorf("trigger %d: Verify() = %v, want %v", sequence, err, kind)
		}
	}
	for _, text := range []string{"", "[]", `{"sequence":1,"force":true}`, "\xff"} {
		m := nats.NewMsg("tercel.control.ingress.verify")
		m.Data = []byte(text)
		answer, err := nc.RequestMsg(m, time.Minute)
		if err != nil || !strings.Contains(string(answer.Data), "want a JSON object with sequence") {
			t.Errorf("%q is answered %v, %v", text, answer, err)
		}
	}
}
