package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
)

type listenCmd struct {
	apiFlags
	eventFlags
	Raw   bool   `help:"Triggers as they came in, in place of enriched events."`
	Since string `help:"Begin with those from then on, in place of new ones: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 1h or 7d." placeholder:"TIME"`
	Count int    `short:"n" help:"Stop after this many events. Defaults to going on."`
	JSON  bool   `name:"json" help:"Print every event whole, as one line of JSON after the tercel.event.v1.Event contract; with --raw as the API has it, the payload in base64."`
}

// Help is shown by --help.
func (listenCmd) Help() string {
	return `Takes nothing from anybody: it reads beside the pipeline's own consumers.

Example:
  tercel listen --source github --since 1h --json`
}

// maxTailed is the most of a payload that the API sends in a tail.
const maxTailed = 1 << 20

// Run runs the command.
func (c listenCmd) Run(a *app) error {
	req := &adminv1.TailEventsRequest{Filter: c.filter()}
	if c.Raw {
		req.Stream = adminv1.TailStream_TAIL_STREAM_RAW
	}
	if c.JSON {
		req.MaxPayloadBytes = maxTailed
	}
	if c.Since != "" {
		since, err := when("--since", c.Since)
		if err != nil {
			return err
		}
		req.Age = durationpb.New(max(0, time.Since(since.AsTime())))
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	n, said := 0, c.JSON
	err = each(a.ctx, api, func(ctx context.Context) (*connect.ServerStreamForClient[adminv1.TailEventsResponse], error) {
		return api.events.TailEvents(ctx, connect.NewRequest(req))
	}, func(r *adminv1.TailEventsResponse) (bool, error) {
		if !said {
			said = true
			fmt.Fprintln(a.err, "listening; stop with Ctrl-C")
		}
		if r.GetMessage() == nil { // a sign of life
			return true, nil
		}
		n++
		return c.Count == 0 || n < c.Count, c.print(a, r.GetMessage())
	})
	if a.ctx.Err() != nil {
		return nil
	}
	return err
}

func (c listenCmd) print(a *app, m *adminv1.StoredMessage) error {
	switch {
	case c.JSON && c.Raw:
		return printMessageLine(a.out, m)
	case c.JSON:
		return printEvent(a, m)
	}
	at := m.GetAttributes()
	what := orDash(strings.TrimSpace(at.GetResource() + " " + at.GetSubject()))
	_, err := fmt.Fprintf(a.out, "%s  %s  %s  %s  %s  %s\n", stamp(m.GetStoredAt()), printable(withAccount(at.GetSource(), at.GetAccount())),
		printable(at.GetType()), printable(what), word(at.GetOrigin(), "ORIGIN"), printable(at.GetId()))
	return err
}

// printEvent prints an enriched event after the contract that downstream teams
// import.
func printEvent(a *app, m *adminv1.StoredMessage) error {
	out := &eventv1.Event{Attributes: m.GetAttributes(), Body: &eventv1.Body{}}
	err := protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(m.GetPayload(), out.GetBody())
	if err != nil {
		fmt.Fprintf(a.err, "%s: its body is left out: it is longer than 1 MiB, or not an enriched event's\n", place(m.GetPosition()))
		out.Body = nil
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(out)
	if err != nil {
		return err
	}
	return printLine(a.out, json.RawMessage(text))
}
