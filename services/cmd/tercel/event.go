package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/tercelhq/tercel/services/internal/timeline"
)

type eventCmd struct {
	Trace traceCmd `cmd:"" help:"Show an event's whole way and where it is now."`
	Show  showCmd  `cmd:"" help:"Show what is stored of an event, with its payloads."`

	Refused refusedCmd `cmd:"" help:"List requests that were refused, and why."`
}

type traceCmd struct {
	pipelineFlags
	ID       string `arg:"" help:"The event's id, the provider's id of a delivery, or a record's id."`
	By       string `help:"What the id is of: event, delivery or record. Defaults to any." enum:",event,delivery,record" default:"" placeholder:"KIND"`
	Source   string `help:"Look at this source's events only, which is faster." placeholder:"NAME"`
	Account  string `help:"Only of this account." placeholder:"NAME"`
	Resource string `help:"Only of this resource." placeholder:"NAME"`
	Limit    int    `help:"At most this many events, the newest." default:"20"`
	JSON     bool   `name:"json" help:"Print the way as JSON."`
}

// Help is shown by --help.
func (traceCmd) Help() string {
	return `Looks through the stored events' headers; with millions of them that takes a while.
Each line says whether it was recorded when it happened, or follows from something else.
Exits 1 when nothing has the id.

Examples:
  tercel event trace evt_1NG8Du2eZvKYlo2C --source stripe
  tercel event trace in_1MtHbELkdIwHu7ix --by record --resource invoice`
}

// Run runs the command.
func (c traceCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	index, err := openIndex(a.ctx, nc, c.Source)
	if err != nil {
		return err
	}
	t, err := index.Trace(a.ctx, timeline.Query{
		ID: c.ID, By: timeline.By(c.By), Source: c.Source, Account: c.Account, Resource: c.Resource, Events: c.Limit,
	})
	if err != nil {
		return err
	}
	if len(t.Entries) == 0 {
		return fmt.Errorf("nothing stored has the id %s; it may be older than the streams keep", c.ID)
	}
	if c.JSON {
		return printJSON(a.out, t)
	}
	return printTimeline(a, t)
}

func printTimeline(a *app, t timeline.Timeline) error {
	for _, e := range t.Events {
		fmt.Fprintf(a.out, "event %s of %s: %s\n", printable(e.ID), printable(e.Source), e.State)
	}
	tb := newTable(a.out, "at", "stage", "what", "took", "stored", "known")
	for _, e := range t.Entries {
		stored, took, what := "-", "-", e.Text
		if e.Stream != "" {
			stored = fmt.Sprintf("%s %d", e.Stream, e.Sequence)
		}
		if e.Took > 0 {
			took = e.Took.Round(10 * time.Microsecond).String()
		}
		if len(t.Events) > 1 && e.Event != "" {
			what = e.Event + ": " + what
		}
		tb.row(stamp(e.At), strings.TrimSpace(e.Stage+" "+e.Name), what, took, stored, e.Known)
	}
	if err := tb.flush(); err != nil {
		return err
	}
	if t.More {
		fmt.Fprintln(a.err, "there are older ones, which are left out; see --limit")
	}
	return nil
}
