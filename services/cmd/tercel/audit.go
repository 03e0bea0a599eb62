package main

import (
	"fmt"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type auditCmd struct {
	List auditListCmd `cmd:"" help:"List what operators did, newest first."`
}

type auditListCmd struct {
	apiFlags
	watchFlags
	listFlags
	Who    string `help:"Only what this caller did, by the name of the token." placeholder:"NAME"`
	Method string `help:"Only this method, such as DeadLetterService.ReplayDeadLetters." placeholder:"NAME"`
	Since  string `help:"Only from then on: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 1h or 7d." placeholder:"TIME"`
	JSON   bool   `name:"json" help:"Print one JSON object a line, with requests and results."`
}

// Help is shown by --help.
func (auditListCmd) Help() string {
	return `Example:
  tercel audit list --since 7d`
}

// Run runs the command.
func (c auditListCmd) Run(a *app) error {
	since, err := when("--since", c.Since)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		records, next, err := list(c.listFlags, func(size uint32, token string) ([]*adminv1.AuditRecord, string, error) {
			resp, err := api.pipeline.ListAuditRecords(a.ctx, connect.NewRequest(&adminv1.ListAuditRecordsRequest{
				Who: c.Who, Method: c.Method, Since: since, PageSize: size, PageToken: token,
			}))
			if err != nil {
				return nil, "", err
			}
			return resp.Msg.GetRecords(), resp.Msg.GetNextPageToken(), nil
		})
		if err != nil {
			return err
		}
		defer more(a, next)
		t := newTable(a.out, "begun", "who", "from", "method", "outcome", "why")
		for _, r := range records {
			if c.JSON {
				if err := printMessageLine(a.out, r); err != nil {
					return err
				}
				continue
			}
			t.row(stamp(r.GetBegunAt()), r.GetWho(), r.GetAddress(), r.GetMethod(), word(r.GetOutcome(), "AUDIT_OUTCOME"), shorten(r.GetReason(), 120))
		}
		switch {
		case c.JSON:
			return nil
		case len(records) == 0:
			fmt.Fprintln(a.err, "no records")
			return nil
		}
		return t.flush()
	})
}
