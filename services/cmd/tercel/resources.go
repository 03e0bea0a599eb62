package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
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

// printSources says how sources send, alarms first of all.
func printSources(w io.Writer, all []cursor.Health) error {
	t := newTable(w, "source", "sends", "usual rate")
	for _, h := range all {
		state := "as usual"
		switch alarms := h.Alarms(); {
		case len(alarms) > 0:
			state = "ALARM: " + alarms[0]
			for _, another := range alarms[1:] {
				t.row(h.Source, "ALARM: "+another, "")
			}
		case h.Silence != nil:
			state = fmt.Sprintf("silent since %s, and nothing has changed; asked %s", stamp(h.Silence.Since), ago(h.Silence.ProbedAt))
		case !h.Learned.Enough:
			state = "-"
		}
		t.row(h.Source, state, usualRate(h.Learned))
	}
	return t.flush()
}

// usualRate says what a source's usual rate is known from.
func usualRate(l cursor.Learned) string {
	switch known := fmt.Sprintf("%d minutes with events since %s", l.Minutes, stamp(l.Since)); {
	case l.Enough:
		return "learned from " + known
	case l.Minutes > 0:
		return "too few events to learn it, only " + known
	default:
		return "too few events to learn it"
	}
}
