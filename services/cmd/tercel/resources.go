package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tercelhq/tercel/services/internal/status"
)

func printResources(w io.Writer, all []status.Resource) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "nothing has been reconciled")
		return err
	}
	t := newTable(w, "resource", "account", "complete through", "lag", "last run", "next run", "completeness")
	for _, r := range all {
		lag := "-"
		if r.Lag != nil {
			lag = time.Duration(*r.Lag * float64(time.Second)).Round(time.Second).String()
		}
		t.row(r.Source+" "+r.Resource, r.Account, stamp(r.Through), lag, ago(r.LastRun), next(r), shorten(r.Completeness, 120))
	}
	return t.flush()
}

// next says when the next run of a resource is due, or what keeps it.
func next(r status.Resource) string {
	switch {
	case len(r.Paused) > 0:
		return "paused since " + stamp(r.Paused[0].Since)
	case r.Runner != "":
		return "under way"
	case r.NextRun.IsZero():
		return "-"
	}
	if wait := time.Until(r.NextRun).Round(time.Second); wait > 0 {
		return "in " + wait.String()
	}
	return "due since " + stamp(r.NextRun)
}
