package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/clock"
	"github.com/tercelhq/tercel/services/internal/process"
)

// steps are how far a clock that fails is off: beyond the tolerance of signatures,
// and beyond every time of the pipeline but the retention of its streams.
var steps = []time.Duration{10 * time.Minute, 36 * time.Hour}

// clockFaults put the clock of one process ahead or behind, all of a sudden, and
// right again. Whoever was told the wrong time then has to live with that.
func clockFaults() (all []fault) {
	for _, kind := range append([]string{server}, kinds...) {
		all = append(all, clockFault(kind, "ahead", 1), clockFault(kind, "behind", -1))
	}
	return all
}

func clockFault(kind, how string, sign time.Duration) fault {
	return fault{name: "clock of one " + kind + " " + how, kind: "clock of a process " + how, clocks: true, harm: func(ctx context.Context, w *world, r *rand.Rand) error {
		m := w.members[anyOf(kind, r)]
		err := w.setClock(ctx, m, sign*steps[r.IntN(len(steps))])
		if err == nil {
			err = between(ctx, r, time.Second, 15*time.Second)
		}
		if mended := w.setClock(ctx, m, 0); mended != nil {
			return mended
		}
		return err
	}}
}

// clockFile is where a member looks for how far its clock is off.
func (w *world) clockFile(name string) string { return w.path("clocks", name) }

// setClock puts a member's clock off, and waits until it is.
func (w *world) setClock(ctx context.Context, m *member, offset time.Duration) error {
	if err := clock.Set(w.clockFile(m.name), offset); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.health, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		told, err := http.ParseTime(resp.Header.Get("Date"))
		if off := time.Until(told); err != nil || (off-offset).Abs() > time.Minute {
			return fmt.Errorf("the clock of %s is off by %s, want %s", m.name, off, offset)
		}
		return nil
	})
}
