package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows how far a demo has come: on a terminal in one line that is
// rewritten, elsewhere in a line now and then.
type progress struct {
	w       io.Writer
	demo    *demo
	live    bool
	started time.Time
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func startProgress(w io.Writer, d *demo) *progress {
	ctx, cancel := context.WithCancel(context.Background())
	p := &progress{w: w, demo: d, live: isTerminal(w), started: time.Now(), cancel: cancel}
	p.done.Go(func() { p.run(ctx) })
	return p
}

// stop ends the display and waits until its last line is out.
func (p *progress) stop() {
	p.cancel()
	p.done.Wait()
}

func (p *progress) run(ctx context.Context) {
	every := 2 * time.Second
	if p.live {
		every = 250 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show(ctx)
		case <-ctx.Done():
			if p.live {
				fmt.Fprint(p.w, clearLine)
			}
			return
		}
	}
}

// clearLine goes to the begin of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

// maxColumns bounds a line that is rewritten: one that wraps can't be cleared.
const maxColumns = 79

func (p *progress) show(ctx context.Context) {
	c := p.demo.provider.Progress()
	events, reconciled := p.demo.dest.Size(ctx)
	line := fmt.Sprintf("%5.1fs %s: %d/%d changes, %d accepted, %d delivered, %d repaired", time.Since(p.started).Seconds(),
		p.demo.currentPhase(), c.Changes, c.Planned, c.Accepted, events, reconciled)
	if p.live {
		fmt.Fprint(p.w, clearLine+cut(line, maxColumns))
		return
	}
	fmt.Fprintln(p.w, line)
}
