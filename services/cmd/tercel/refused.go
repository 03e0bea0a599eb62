package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tercelhq/tercel/pkg/signature"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type refusedCmd struct {
	apiFlags
	watchFlags
	listFlags
	N      uint64 `arg:"" optional:"" help:"Show this one with all that is known of it."`
	Source string `help:"Only of this source." placeholder:"NAME"`
	Since  string `help:"Only from then on: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 1h or 7d." default:"1d" placeholder:"TIME"`
	JSON   bool   `name:"json" help:"Print each as one JSON object."`
}

// Help is shown by --help.
func (refusedCmd) Help() string {
	return `Of each reason ten a minute are kept, without credentials, and without bodies unless the
source says refused: body. tercel verify --refused N says more of one.

Example:
  tercel event refused --source stripe`
}

// Run runs the command.
func (c refusedCmd) Run(a *app) error {
	since, err := when("--since", c.Since)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		if c.N > 0 {
			r, err := api.refusal(a.ctx, c.N)
			if err != nil {
				return err
			}
			return printRefused(a.out, r, c.JSON)
		}
		all, next, err := list(c.listFlags, func(size uint32, token string) ([]*adminv1.Refusal, string, error) {
			resp, err := api.sources.ListRefusals(a.ctx, connect.NewRequest(&adminv1.ListRefusalsRequest{Source: c.Source, Since: since, PageSize: size, PageToken: token}))
			if err != nil {
				return nil, "", err
			}
			return resp.Msg.GetRefusals(), resp.Msg.GetNextPageToken(), nil
		})
		if err != nil {
			return err
		}
		defer more(a, next)
		if err := c.print(a, all); err != nil || c.JSON {
			return err
		}
		return c.printCounts(a, api, time.Since(since.AsTime()), len(all))
	})
}

// refusal returns one refused request.
func (p *api) refusal(ctx context.Context, n uint64) (*adminv1.Refusal, error) {
	resp, err := p.sources.ListRefusals(ctx, connect.NewRequest(&adminv1.ListRefusalsRequest{Sequence: n}))
	if err != nil {
		return nil, err
	}
	if len(resp.Msg.GetRefusals()) != 1 {
		return nil, errors.New("the API answered with another number of refusals than one")
	}
	return resp.Msg.GetRefusals()[0], nil
}

func (c refusedCmd) print(a *app, all []*adminv1.Refusal) error {
	t := newTable(a.out, "n", "at", "source", "from", "status", "check", "claims to be", "reason")
	for _, r := range all {
		if c.JSON {
			if err := printMessageLine(a.out, r); err != nil {
				return err
			}
			continue
		}
		t.row(r.GetSequence(), stamp(r.GetAt()), r.GetSource(), orDash(r.GetFrom()), r.GetStatus(), checkOf(r), orDash(shorten(r.GetClaimedId(), 40)), shorten(r.GetReason(), 120))
	}
	if c.JSON || len(all) == 0 {
		return nil
	}
	return t.flush()
}

// printCounts says how many there were beside those that were kept.
func (c refusedCmd) printCounts(a *app, api *api, age time.Duration, kept int) error {
	resp, err := api.sources.ListSources(a.ctx, connect.NewRequest(&adminv1.ListSourcesRequest{Window: durationpb.New(min(age, 7*24*time.Hour))}))
	if err != nil {
		return err
	}
	if c.Source == "" {
		fmt.Fprintf(a.err, "%d kept; --source NAME says how many of it were refused\n", kept)
		return nil
	}
	parts := []string{"none"}
	for _, s := range resp.Msg.GetSources() {
		if s.GetName() == c.Source && len(s.GetRefused()) > 0 {
			parts = nil
			for _, outcome := range slices.Sorted(maps.Keys(s.GetRefused())) {
				parts = append(parts, fmt.Sprintf("%d %s", s.GetRefused()[outcome], outcome))
			}
		}
	}
	fmt.Fprintf(a.err, "%d kept; counted up to a minute ago: %s\n", kept, printable(strings.Join(parts, ", ")))
	return nil
}

func checkOf(r *adminv1.Refusal) string {
	if r.GetStep() == "" {
		return r.GetCheck()
	}
	return r.GetCheck() + ", " + r.GetStep()
}

// printRefused prints all that is known of a refused request.
func printRefused(w io.Writer, r *adminv1.Refusal, asJSON bool) error {
	if asJSON {
		return printMessage(w, r)
	}
	t := newTable(w)
	for _, s := range r.GetChecks() {
		t.row(s.GetResult(), s.GetName(), s.GetDetail())
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nrefused with %d: %s\n\n", r.GetStatus(), printable(r.GetReason()))
	t = newTable(w)
	t.row("request", r.GetMethod()+" "+r.GetPath()+", from "+orDash(r.GetFrom())+" at "+stamp(r.GetAt()))
	t.row("answered as", r.GetRequestId())
	t.row("claims to be", orDash(r.GetClaimedId()))
	t.row("tried with", orDash(strings.Join(r.GetKeys(), ", ")))
	if r.GetTolerance() != "" {
		t.row("tolerance", r.GetTolerance())
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetHeaders())) {
		t.row("header", name+": "+r.GetHeaders()[name])
	}
	if len(r.GetOtherHeaders()) > 0 {
		t.row("other headers", strings.Join(r.GetOtherHeaders(), ", "))
	}
	t.row("body", fmt.Sprintf("%d bytes, SHA-256 %s", r.GetBodyBytes(), orDash(r.GetBodySha256())))
	if r.GetBodyShape() != "" {
		t.row("its shape", r.GetBodyShape())
	}
	if r.GetBodyText() != "" {
		t.row("its text", r.GetBodyText())
	}
	if err := t.flush(); err != nil {
		return err
	}
	if hint := refusedHints[r.GetStep()]; hint != "" {
		fmt.Fprintf(w, "\n%s\n", hint)
	}
	return nil
}

// refusedHints say for each step of a signature what mostly is the cause.
var refusedHints = map[string]string{
	signature.StepHeader: "The sender didn't sign, signs under another header, or a proxy in front takes the header away: " +
		"compare the headers above with verify in the pipeline file.",
	signature.StepFormat:          "The header is there and written otherwise than verify in the pipeline file says: compare prefix, format and encoding.",
	signature.StepTimestampHeader: "The sender doesn't say when it signed, or a proxy in front takes the header away.",
	signature.StepMatch: "The secret is another one, or something on the way changed the body. If the sender's log has the same SHA-256 of the body, " +
		"it is the secret; a body that was parsed and written again by a proxy has another one.",
	signature.StepWindow: "The signature is genuine. The clocks are apart, or the request was sent again without being signed anew: see verify.tolerance.",
}
