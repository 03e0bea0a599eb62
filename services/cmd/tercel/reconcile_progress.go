package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
)

// followRun waits for a run's report and shows meanwhile how far it has come:
// on a terminal in one line that is rewritten, elsewhere in a line now and then.
func followRun(ctx context.Context, a *app, nc *connection, run control.Started, since time.Time) (report.Report, error) {
	var r report.Report
	ended := make(chan error, 1)
	go func() {
		var err error
		r, err = report.Follow(ctx, nc.js, report.Query{Source: run.Source, Resource: run.Resource, Since: since}, run.Run)
		ended <- err
	}()
	live, every := isTerminal(a.err), 2*time.Second
	if live {
		every = 500 * time.Millisecond
	}
	look, last := time.NewTicker(every), ""
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if live {
				fmt.Fprint(a.err, clearLine)
			}
			return r, err
		case <-look.C:
		}
		line := runLine(ctx, nc, run)
		switch {
		case live:
			fmt.Fprint(a.err, clearLine+line[:min(len(line), maxColumns)])
		case line != last:
			fmt.Fprintln(a.err, line)
		}
		last = line
	}
}

// runLine says how far a run has come, as its cursor has it, or "".
func runLine(ctx context.Context, nc *connection, run control.Started) string {
	store, err := cursor.Open(ctx, nc.js)
	if err != nil {
		return ""
	}
	e, err := store.Load(ctx, cursor.Key{Source: run.Source, Account: run.Account, Resource: run.Resource})
	if err != nil || e.Window == nil || e.Window.Run != run.Run {
		return "" // it begins, or is at its end
	}
	w := e.Window
	return fmt.Sprintf("%d pages, %d listed, %d matched, %d repaired", w.Pages, w.Counts.Listed, w.Counts.Matched, w.Counts.Repaired)
}
