package model_test

import (
	"sync/atomic"
	"time"
)

// clock is the time of a world. It goes on a little with each look, so that no
// two things happen at once, and else only when it is told to.
type clock struct{ ns atomic.Int64 }

const tick = time.Microsecond

func newClock() *clock {
	c := &clock{}
	// Before all that is stored: the server's clock is the real one.
	c.ns.Store(time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

// now is the time, which nobody else was told.
func (c *clock) now() time.Time { return time.Unix(0, c.ns.Add(int64(tick))).UTC() }

func (c *clock) pass(d time.Duration) { c.ns.Add(int64(d)) }

// watch is a clock that goes wrong: it shows another time, that runs alike.
type watch struct {
	*clock
	off atomic.Int64 // nanoseconds
}

func (w *watch) now() time.Time { return w.clock.now().Add(w.skew()) }

func (w *watch) skew() time.Duration { return time.Duration(w.off.Load()) }
