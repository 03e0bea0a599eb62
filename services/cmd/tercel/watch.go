package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/services/internal/boot"
)

// watchFlags show something again and again.
type watchFlags struct {
	Watch    bool          `short:"w" help:"Show it again and again, until Ctrl-C."`
	Interval time.Duration `help:"The time between two looks of --watch." default:"2s"`
}

// home goes to a terminal's first line and empties all of it.
const home = "\x1b[H\x1b[2J"

// watch calls show once or, if it is asked to, until the command is ended: on a
// terminal in the same place, elsewhere one after the other. That the API is away
// for a while doesn't end it.
func (f watchFlags) watch(a *app, show func(a *app) error) error {
	if !f.Watch {
		return show(a)
	}
	if f.Interval < 100*time.Millisecond {
		return exitCode{boot.Usage, fmt.Sprintf("--interval %s: want at least 100ms", f.Interval)}
	}
	tick := time.NewTicker(f.Interval)
	defer tick.Stop()
	for first := true; ; first = false {
		var out, notes bytes.Buffer
		at := *a
		at.out, at.err = &out, &notes
		err := show(&at)
		var call *callError
		switch {
		case a.ctx.Err() != nil:
			return nil
		case err != nil && (first || !errors.As(err, &call) || !call.away()):
			_, _ = a.err.Write(notes.Bytes())
			return err
		case err != nil:
			fmt.Fprintf(&notes, "%s: %s\n", time.Now().Format(time.TimeOnly), printable(err.Error()))
		}
		if isTerminal(a.out) {
			fmt.Fprint(a.out, home)
		}
		if _, err := a.out.Write(out.Bytes()); err != nil {
			return err
		}
		_, _ = a.err.Write(notes.Bytes())
		select {
		case <-tick.C:
		case <-a.ctx.Done():
			return nil
		}
	}
}
