package main

import (
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type dlqEditCmd struct {
	apiFlags
	reasonFlags
	N      uint64 `arg:"" help:"The dead letter's number in the list."`
	Patch  string `help:"A file with a JSON Patch (RFC 6902) of the payload as it was received; - for standard input." placeholder:"FILE" xor:"edit"`
	Undo   bool   `help:"Take the edit back." xor:"edit"`
	DryRun bool   `help:"Only show what the patch would make."`
	JSON   bool   `name:"json" help:"Print what differs as one JSON object, payloads in base64."`
}

// Help is shown by --help.
func (dlqEditCmd) Help() string {
	return `Shows what differs. The payload as it was received stays; a replay sends the edited one.

Example:
  echo '[{"op": "replace", "path": "/amount", "value": 100}]' | tercel dlq edit 42 --patch - --dry-run`
}

// maxPatch bounds a patch. The API takes 1 MiB.
const maxPatch = 1<<20 + 1

// Run runs the command.
func (c dlqEditCmd) Run(a *app) error {
	if (c.Patch == "") == !c.Undo {
		return exitCode{boot.Usage, "want --patch FILE, or --undo"}
	}
	patch, err := c.read(a)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	resp, err := api.letters.EditDeadLetter(a.ctx, connect.NewRequest(&adminv1.EditDeadLetterRequest{
		Sequence: c.N, Patch: string(patch), DryRun: c.DryRun, Reason: c.why(a),
	}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	t := newTable(a.out, "where", "before", "after")
	for _, d := range resp.Msg.GetChanges() {
		path := d.GetPath()
		if path == "" {
			path = "(all of it)"
		}
		t.row(path, orDash(shorten(d.GetBefore(), 120)), orDash(shorten(d.GetAfter(), 120)))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if resp.Msg.GetTruncated() {
		fmt.Fprintln(a.err, "there are more differences")
	}
	fmt.Fprintln(a.err, c.outcome())
	return nil
}

// outcome says what was done.
func (c dlqEditCmd) outcome() string {
	switch {
	case c.DryRun && c.Undo:
		return "a dry run: the edit stays"
	case c.DryRun:
		return "a dry run: nothing was kept"
	case c.Undo:
		return "the edit is taken back; a replay sends the payload as it was received"
	default:
		return "kept; a replay sends the edited payload"
	}
}

// read returns the patch, which is empty to take an edit back.
func (c dlqEditCmd) read(a *app) ([]byte, error) {
	in := a.in
	switch c.Patch {
	case "":
		return nil, nil
	case "-":
	default:
		f, err := os.Open(c.Patch)
		if err != nil {
			return nil, fmt.Errorf("--patch: %w", err)
		}
		defer f.Close()
		in = f
	}
	patch, err := io.ReadAll(io.LimitReader(in, maxPatch))
	if err == nil && len(patch) == 0 { // which the API would take for --undo
		return nil, exitCode{boot.Usage, "--patch: it is empty; --undo takes an edit back"}
	}
	return patch, err
}

type dlqDiscardCmd struct {
	apiFlags
	letterFlags
	N      []uint64 `arg:"" optional:"" help:"Numbers of dead letters."`
	Reason string   `required:"" help:"Why, for the audit record and the letters." placeholder:"TEXT"`
	Yes    bool     `short:"y" help:"Don't ask."`
	JSON   bool     `name:"json" help:"Print how many there were as one JSON object."`
}

// Help is shown by --help.
func (dlqDiscardCmd) Help() string {
	return `Nothing is deleted: the letters stay and are marked. At most 10,000 at a time.

Example:
  tercel dlq discard --group 5d41402abc4b --reason "a test of the provider's"`
}

// maxDiscard is how many letters the API discards in one call.
const maxDiscard = 10_000

// Run runs the command.
func (c dlqDiscardCmd) Run(a *app) error {
	if (len(c.N) == 0) == c.empty() {
		return exitCode{boot.Usage, "name dead letters by number, or choose open ones with --group, --source and others"}
	}
	f, err := c.filter(c.N, open)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	letters, _, err := api.listLetters(a, listFlags{Limit: maxDiscard + 1}, f)
	if err != nil {
		return err
	}
	switch n := len(letters); {
	case n == 0:
		return exitCode{boot.Failed, "no open dead letter is chosen"}
	case n > maxDiscard:
		return exitCode{boot.Failed, fmt.Sprintf("more than %d dead letters are chosen, which is too many at a time; choose fewer", maxDiscard)}
	case n > 1 && !c.Yes:
		if err := confirm(a, fmt.Sprintf("Discard %d dead letters?", n)); err != nil {
			return err
		}
	}
	resp, err := api.letters.DiscardDeadLetters(a.ctx, connect.NewRequest(&adminv1.DiscardDeadLettersRequest{
		Filter: f, Expected: uint32(len(letters)), Reason: c.Reason,
	}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	_, err = fmt.Fprintf(a.out, "%d discarded\n", resp.Msg.GetDiscarded())
	return err
}
