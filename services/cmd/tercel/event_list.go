package main

import (
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/config"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// eventFlags choose events.
type eventFlags struct {
	Source   string   `help:"Only of this source." placeholder:"NAME"`
	Account  string   `help:"Only of this account." placeholder:"NAME"`
	Type     string   `help:"Only of this type; * stands for a part between dots, > for the rest." placeholder:"TYPE"`
	Resource string   `help:"Only of this resource: enriched events." placeholder:"NAME"`
	Record   string   `help:"Only of the record with this id." placeholder:"ID"`
	ID       string   `name:"id" help:"Only with this id of an event or a delivery." placeholder:"ID"`
	Origin   []string `help:"Only what came by webhook, reconcile, replay or backfill." enum:"webhook,reconcile,replay,backfill"`
}

// empty reports whether they choose everything.
func (f eventFlags) empty() bool {
	return f.Source == "" && f.Account == "" && f.Type == "" && f.Resource == "" && f.Record == "" && f.ID == "" && len(f.Origin) == 0
}

func (f eventFlags) filter() *adminv1.EventFilter {
	out := &adminv1.EventFilter{Source: f.Source, Account: f.Account, Type: f.Type, Resource: f.Resource, RecordId: f.Record, Id: f.ID}
	for _, o := range f.Origin {
		out.Origin = append(out.Origin, eventv1.Origin(eventv1.Origin_value["ORIGIN_"+strings.ToUpper(o)]))
	}
	return out
}

// timeFlags choose by time.
type timeFlags struct {
	Since string `help:"Only from then on: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 1h or 7d." placeholder:"TIME"`
	Until string `help:"Only before then." placeholder:"TIME"`
}

func (f timeFlags) times() (since, until *timestamppb.Timestamp, err error) {
	if since, err = when("--since", f.Since); err != nil {
		return nil, nil, err
	}
	until, err = when("--until", f.Until)
	return since, until, err
}

// when reads a time of a flag: a date, a time, or how long ago. It is nil for "".
func when(flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return timestamppb.New(t), nil
		}
	}
	if d, err := config.ParseDuration(text); err == nil && d > 0 {
		return timestamppb.New(time.Now().Add(-d)), nil
	}
	return nil, exitCode{boot.Usage, fmt.Sprintf("%s %s: want a date as 2026-01-31 (UTC), a time as 2026-01-31T08:00:00Z, or how long ago, as 720h or 7d", flag, text)}
}

type eventListCmd struct {
	apiFlags
	watchFlags
	listFlags
	eventFlags
	timeFlags
	Status []string `help:"Only those that are pending, delivered, dead-letter, discarded or dropped." enum:"pending,delivered,dead-letter,discarded,dropped"`
	JSON   bool     `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (eventListCmd) Help() string {
	return `Example:
  tercel event list --source stripe --type 'invoice.*' --since 1d --status dead-letter`
}

// Run runs the command.
func (c eventListCmd) Run(a *app) error {
	f := c.filter()
	var err error
	if f.Since, f.Until, err = c.times(); err != nil {
		return err
	}
	for _, s := range c.Status {
		f.Status = append(f.Status, adminv1.EventStatus(adminv1.EventStatus_value["EVENT_STATUS_"+strings.ToUpper(strings.ReplaceAll(s, "-", "_"))]))
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		events, next, err := list(c.listFlags, func(size uint32, token string) ([]*adminv1.Event, string, error) {
			resp, err := api.events.ListEvents(a.ctx, connect.NewRequest(&adminv1.ListEventsRequest{Filter: f, PageSize: size, PageToken: token}))
			if err != nil {
				return nil, "", err
			}
			return resp.Msg.GetEvents(), resp.Msg.GetNextPageToken(), nil
		})
		if err != nil {
			return err
		}
		defer more(a, next)
		return c.print(a, events)
	})
}

func (c eventListCmd) print(a *app, events []*adminv1.Event) error {
	t := newTable(a.out, "stored", "event", "source", "type", "record", "origin", "state")
	for _, e := range events {
		if c.JSON {
			if err := printMessageLine(a.out, e); err != nil {
				return err
			}
			continue
		}
		at := e.GetAttributes()
		t.row(stamp(e.GetStoredAt()), at.GetId(), withAccount(at.GetSource(), at.GetAccount()), at.GetType(),
			orDash(strings.TrimSpace(at.GetResource()+" "+at.GetSubject())), word(at.GetOrigin(), "ORIGIN"), eventWord(e.GetStatus()))
	}
	switch {
	case c.JSON:
		return nil
	case len(events) == 0:
		fmt.Fprintln(a.err, "no events")
		return nil
	}
	return t.flush()
}

// withAccount names a source and, where it has several, an account of it.
func withAccount(source, account string) string {
	if account == "" || account == "_" {
		return source
	}
	return source + "/" + account
}
