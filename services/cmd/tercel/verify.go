package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type verifyCmd struct {
	pipelineFlags
	apiFlags
	Config  string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Source  string `required:"" help:"The source that the request is for." placeholder:"NAME"`
	At      string `help:"Judge the request as if it came at this time (RFC 3339). Defaults to now." placeholder:"TIME"`
	JSON    bool   `name:"json" help:"Print the answer as JSON."`
	Refused uint64 `help:"Say it of a request that the running pipeline has refused, by its number in tercel event refused." placeholder:"N"`
	Request string `arg:"" optional:"" help:"A file with the raw HTTP request: request line, headers, an empty line, body; - for standard input."`
}

// Help is shown by --help.
func (verifyCmd) Help() string {
	return `Runs the checks of the ingress, one by one, and says which failed and why. Nothing is stored.
A key that the request names is fetched, as the ingress would; an address that a handshake wants visited isn't called.
Only where the source's accounts are in a bucket, the running pipeline is asked for them: it connects as the file's
nats section says, or to the tercel up that runs on --data.
Exits 1 when the request would be refused.

Examples:
  tercel verify --source github --at 2026-03-01T12:00:00Z request.http
  tercel verify --source github --refused 12`
}

// maxCaptured bounds a captured request: no source takes a larger body.
const maxCaptured = 65 << 20

// Run runs the command.
func (c verifyCmd) Run(a *app) error {
	if (c.Refused > 0) == (c.Request != "") {
		return exitCode{boot.Usage, "name a file with the request, or one that was refused with --refused"}
	}
	if c.Refused > 0 {
		return c.refused(a)
	}
	at := time.Now()
	if c.At != "" {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, c.At); err != nil {
			return exitCode{boot.Usage, fmt.Sprintf("--at %q: want a time such as 2026-03-01T12:00:00Z", c.At)}
		}
	}
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return err
	}
	src, ok := file.Sources[c.Source]
	if !ok {
		return fmt.Errorf("--source %s: %s has no such source; want one of %s", c.Source, c.Config,
			strings.Join(slices.Sorted(maps.Keys(file.Sources)), ", "))
	}
	raw, err := readSample(a.in, c.Request)
	if err != nil {
		return err
	}
	var outside ingress.Outside
	if src.Accounts.Bucket != "" {
		if outside.Accounts, err = c.accounts(a, file); err != nil {
			return fmt.Errorf("source %s: its accounts are in bucket %s: %w", c.Source, src.Accounts.Bucket, err)
		}
	}
	ex, err := outside.Explain(c.Source, src, raw, at)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(a.out, ex)
	} else {
		err = printExplanation(a.out, ex)
	}
	if err == nil && !ex.Accepted {
		err = failed()
	}
	return err
}

// refused says what the ingress has noted of a request when it refused it.
func (c verifyCmd) refused(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	r, err := api.refusal(a.ctx, c.Refused)
	if err == nil && r.GetSource() != c.Source {
		err = fmt.Errorf("refused request %d is one of source %s", c.Refused, r.GetSource())
	}
	if err == nil {
		err = printRefused(a.out, r, c.JSON)
	}
	if err == nil {
		err = failed()
	}
	return err
}

// accounts reads the source's accounts out of its bucket.
func (c verifyCmd) accounts(a *app, file *pipeline.File) (*account.Table, error) {
	nc, err := c.connect(c.Config, file.NATS)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, accountsTimeout)
	defer cancel()
	return account.ReadBucket(ctx, nc.js, c.Source, account.Config{Sources: file.Sources, SealKeys: file.SealKeys})
}

func printExplanation(w io.Writer, ex ingress.Explanation) error {
	t := newTable(w)
	for _, s := range ex.Steps {
		t.row(s.Result, s.Name, s.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if !ex.Accepted {
		_, err := fmt.Fprintf(w, "\nrefused with %d\n", ex.Status)
		return err
	}
	if ex.Handshake != "" {
		_, err := fmt.Fprintf(w, "\nanswered with %d as handshake %s; nothing would be stored\n", ex.Status, ex.Handshake)
		return err
	}
	if ex.EventID == "" {
		return printEvents(w, ex)
	}
	_, err := fmt.Fprintf(w, "\naccepted as event %s\n  type     %s\n  subject  %s\n  msg id   %s\n",
		printable(ex.EventID), printable(ex.Type), ex.Subject, ex.MessageID)
	return err
}

// printEvents lists what a request that holds several events is stored as.
func printEvents(w io.Writer, ex ingress.Explanation) error {
	if len(ex.Events) == 0 {
		_, err := fmt.Fprintln(w, "\naccepted; there is no event in it, so nothing would be stored")
		return err
	}
	fmt.Fprintf(w, "\naccepted as %d events; the request itself is kept at %s\n", len(ex.Events), ex.Request)
	t := newTable(w, "part", "event", "type", "subject", "msg id")
	for _, e := range ex.Events {
		t.row(e.Part, e.EventID, e.Type, e.Subject, e.MessageID)
	}
	return t.flush()
}
