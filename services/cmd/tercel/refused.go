package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type refusedCmd struct {
	pipelineFlags
	N      uint64 `arg:"" optional:"" help:"Show this one with all that is known of it."`
	Source string `help:"Only of this source." placeholder:"NAME"`
	Since  string `help:"Only those of this age, such as 1h or 7d." default:"1d" placeholder:"AGE"`
	JSON   bool   `name:"json" help:"Print each as one JSON object."`
}

// Help is shown by --help.
func (refusedCmd) Help() string {
	return `Of each reason ten a minute are kept, without bodies and credentials. tercel verify --refused N says more of one.

Example:
  tercel event refused --source stripe`
}

// Run runs the command.
func (c refusedCmd) Run(a *app) error {
	age, err := config.ParseDuration(c.Since)
	if err != nil {
		return exitCode{boot.Usage, "--since: " + err.Error()}
	}
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if c.N > 0 {
		r, err := refusal.Get(a.ctx, nc.js, c.N)
		if err != nil {
			return err
		}
		return printRefused(a.out, r, c.JSON)
	}
	since := time.Now().Add(-age)
	t := newTable(a.out, "n", "at", "source", "from", "status", "check", "claims to be", "reason")
	n := 0
	for r, err := range refusal.List(a.ctx, nc.js, refusal.Filter{Source: c.Source, Since: since}) {
		if err != nil {
			return err
		}
		n++
		if c.JSON {
			if err := printLine(a.out, r); err != nil {
				return err
			}
			continue
		}
		t.row(r.Sequence, stamp(r.At), r.Source, orDash(r.From), r.Status, checkOf(r), orDash(shorten(r.ClaimedID, 40)), shorten(r.Reason, 120))
	}
	if c.JSON {
		return nil
	}
	if n > 0 {
		if err := t.flush(); err != nil {
			return err
		}
	}
	return c.printCounts(a, nc, since, n)
}

// printCounts says how many there were beside those that were kept.
func (c refusedCmd) printCounts(a *app, nc *connection, since time.Time, kept int) error {
	h, err := intake.Read(a.ctx, nc.js, since, time.Now())
	if err != nil {
		return err
	}
	if c.Source == "" {
		fmt.Fprintf(a.err, "%d kept; --source NAME says how many of it were refused\n", kept)
		return nil
	}
	counts := h.Counts(c.Source, since, time.Now()).Refused()
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[outcome], outcome))
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	fmt.Fprintf(a.err, "%d kept; counted up to a minute ago: %s\n", kept, strings.Join(parts, ", "))
	return nil
}

func checkOf(r refusal.Record) string {
	if r.Step == "" {
		return r.Check
	}
	return r.Check + ", " + r.Step
}

// printRefused prints all that is known of a refused request.
func printRefused(w io.Writer, r refusal.Record, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	t := newTable(w)
	for _, s := range r.Steps {
		t.row(s.Result, s.Name, s.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nrefused with %d: %s\n\n", r.Status, printable(r.Reason))
	t = newTable(w)
	t.row("request", r.Method+" "+r.Path+", from "+orDash(r.From)+" at "+stamp(r.At))
	t.row("answered as", r.RequestID)
	t.row("claims to be", orDash(r.ClaimedID))
	t.row("tried with", orDash(strings.Join(r.Keys, ", ")))
	if r.Tolerance != "" {
		t.row("tolerance", r.Tolerance)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		t.row("header", name+": "+r.Header[name])
	}
	if len(r.Others) > 0 {
		t.row("other headers", strings.Join(r.Others, ", "))
	}
	t.row("body", fmt.Sprintf("%d bytes, SHA-256 %s", r.Body.Size, orDash(r.Body.SHA256)))
	if len(r.Body.Shape) > 0 {
		t.row("its shape", string(r.Body.Shape))
	}
	if r.Body.Text != "" {
		t.row("its text", r.Body.Text)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if hint := refusedHints[r.Step]; hint != "" {
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
