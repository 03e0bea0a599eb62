package main

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type eventCmd struct {
	List   eventListCmd   `cmd:"" help:"List events, newest first."`
	Trace  traceCmd       `cmd:"" help:"Show an event's whole way and where it is now."`
	Show   showCmd        `cmd:"" help:"Show what is stored of an event, with its payloads."`
	Replay eventReplayCmd `cmd:"" help:"Send stored triggers into the pipeline again."`

	Refused refusedCmd `cmd:"" help:"List requests that were refused, and why."`
}

type traceCmd struct {
	apiFlags
	watchFlags
	ID       string `arg:"" help:"The event's id, the provider's id of a delivery, or a record's id."`
	By       string `help:"What the id is of: event, delivery or record. Defaults to any." enum:",event,delivery,record" default:"" placeholder:"KIND"`
	Source   string `help:"Only of this source." placeholder:"NAME"`
	Account  string `help:"Only of this account." placeholder:"NAME"`
	Resource string `help:"Only of this resource." placeholder:"NAME"`
	Limit    uint32 `help:"At most this many events, the newest." default:"20"`
	JSON     bool   `name:"json" help:"Print the way as JSON."`
}

// Help is shown by --help.
func (traceCmd) Help() string {
	return `Each line says whether it was recorded when it happened, or follows from something else.
Exits 1 when nothing has the id.

Examples:
  tercel event trace evt_1NG8Du2eZvKYlo2C --source stripe
  tercel event trace in_1MtHbELkdIwHu7ix --by record --resource invoice`
}

// Run runs the command.
func (c traceCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	kind := adminv1.IdKind(adminv1.IdKind_value["ID_KIND_"+strings.ToUpper(c.By)]) // 0 for any
	return c.watch(a, func(a *app) error {
		resp, err := api.events.TraceEvent(a.ctx, connect.NewRequest(&adminv1.TraceEventRequest{
			Id: c.ID, Kind: kind, Source: c.Source, Account: c.Account, Resource: c.Resource, MaxEvents: c.Limit,
		}))
		switch {
		case err != nil:
			return err
		case c.JSON:
			return printMessage(a.out, resp.Msg)
		default:
			return printTimeline(a, resp.Msg)
		}
	})
}

func printTimeline(a *app, t *adminv1.TraceEventResponse) error {
	for _, e := range t.GetEvents() {
		fmt.Fprintf(a.out, "event %s of %s: %s\n", printable(e.GetId()), printable(withAccount(e.GetSource(), e.GetAccount())), eventWord(e.GetStatus()))
	}
	tb := newTable(a.out, "at", "stage", "took", "stored", "known", "what") // the widest last, so that no row is padded to it
	for _, s := range t.GetSteps() {
		known, what := "recorded", s.GetText()
		if s.GetDerived() {
			known = "derived"
		}
		if len(t.GetEvents()) > 1 && s.GetEventId() != "" {
			what = s.GetEventId() + ": " + what
		}
		tb.row(stamp(s.GetAt()), strings.TrimSpace(s.GetStage()+" "+s.GetName()), took(s.GetTook()), place(s.GetPosition()), known, what)
	}
	if err := tb.flush(); err != nil {
		return err
	}
	if t.GetTruncated() {
		fmt.Fprintln(a.err, "there are older ones, which are left out; see --limit")
	}
	return nil
}

// eventWord says what became of an event.
func eventWord(s adminv1.EventStatus) string {
	if s == adminv1.EventStatus_EVENT_STATUS_UNSPECIFIED {
		return "not known"
	}
	return word(s, "EVENT_STATUS")
}

// place is where a message is stored, or a dash.
func place(p *adminv1.Position) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%s %d", p.GetStream(), p.GetSequence())
}

type showCmd struct {
	apiFlags
	ID      string `arg:"" help:"The event's id, or the provider's id of a delivery."`
	Source  string `help:"Only of this source." placeholder:"NAME"`
	Account string `help:"Only of this account." placeholder:"NAME"`
	JSON    bool   `name:"json" help:"Print it as one JSON object, payloads in base64."`
}

// Help is shown by --help.
func (showCmd) Help() string {
	return `Shows each stored message with its payload: the trigger as it was received, and what was made of it. What the
source's redact names is left out. Exits 1 when nothing has the id.

Example:
  tercel event show evt_1NG8Du2eZvKYlo2C --source stripe`
}

// maxShown is how many bytes of a payload are asked for.
const maxShown = 4 << 20

// Run runs the command.
func (c showCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	resp, err := api.events.GetEvent(a.ctx, connect.NewRequest(&adminv1.GetEventRequest{
		Id: c.ID, Source: c.Source, Account: c.Account, MaxPayloadBytes: maxShown,
	}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	fmt.Fprintf(a.out, "event %s of %s: %s\n", printable(c.ID), printable(resp.Msg.GetEvent().GetAttributes().GetSource()), eventWord(resp.Msg.GetEvent().GetStatus()))
	for _, m := range append(resp.Msg.GetTriggers(), resp.Msg.GetEnriched()...) {
		fmt.Fprintf(a.out, "\n%s, stored %s as %s\n", place(m.GetPosition()), stamp(m.GetStoredAt()), printable(m.GetSubject()))
		if err := printPayload(a.out, m.GetPayload(), m.GetPayloadBytes(), m.GetTruncated()); err != nil {
			return err
		}
	}
	return nil
}
