package main

import (
	"fmt"
	"io"
	"time"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

func printResources(w io.Writer, all []*adminv1.ResourceStatus) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "nothing has been reconciled")
		return err
	}
	t := newTable(w, "resource", "account", "complete through", "lag", "last run", "next run", "completeness")
	for _, r := range all {
		lag := "-"
		if r.GetLag() != nil {
			lag = r.GetLag().AsDuration().Round(time.Second).String()
		}
		t.row(r.GetResource().GetSource()+" "+r.GetResource().GetResource(), r.GetResource().GetAccount(), stamp(r.GetCompleteThrough()), lag,
			ago(r.GetLastStartedAt()), next(r), shorten(r.GetCompleteness(), 120))
	}
	return t.flush()
}

// next says when the next run of a resource is due, or what keeps it.
func next(r *adminv1.ResourceStatus) string {
	switch {
	case len(r.GetPaused()) > 0:
		return "paused since " + stamp(r.GetPaused()[0].GetSince())
	case r.GetRunner() != "":
		return "under way"
	case r.GetNextAt() == nil:
		return "-"
	}
	if wait := time.Until(r.GetNextAt().AsTime()).Round(time.Second); wait > 0 {
		return "in " + wait.String()
	}
	return "due since " + stamp(r.GetNextAt())
}

// printSources says how sources send, alarms first of all.
func printSources(w io.Writer, all []*adminv1.Source) error {
	t := newTable(w, "source", "sends", "last seen", "usual rate")
	for _, s := range all {
		state := "as usual"
		switch alarms := s.GetAlarms(); {
		case len(alarms) > 0:
			state = "ALARM: " + alarms[0]
			for _, another := range alarms[1:] {
				t.row(s.GetName(), "ALARM: "+another, "", "")
			}
		case s.GetPausedUntil() != nil:
			state = "paused " + untilWhen(s.GetPausedUntil())
		case s.GetSilentSince() != nil:
			state = fmt.Sprintf("silent since %s, and nothing has changed; asked %s", stamp(s.GetSilentSince()), ago(s.GetAskedAt()))
		case !s.GetLearned().GetEnough():
			state = "-"
		}
		t.row(s.GetName(), state, ago(s.GetLastSeenAt()), usualRate(s.GetLearned()))
	}
	return t.flush()
}

// usualRate says what a source's usual rate is known from.
func usualRate(l *adminv1.LearnedRate) string {
	switch known := fmt.Sprintf("%d minutes with events since %s", l.GetMinutes(), stamp(l.GetSince())); {
	case l.GetEnough():
		return "learned from " + known
	case l.GetMinutes() > 0:
		return "too few events to learn it, only " + known
	default:
		return "too few events to learn it"
	}
}
