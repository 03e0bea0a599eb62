package main

import (
	"fmt"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type dlqShowCmd struct {
	apiFlags
	N    uint64 `arg:"" help:"The dead letter's number in the list."`
	JSON bool   `name:"json" help:"Print it as one JSON object, payloads in base64."`
}

// Help is shown by --help.
func (dlqShowCmd) Help() string {
	return `Example:
  tercel dlq show 42 --json`
}

// Run runs the command.
func (c dlqShowCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	resp, err := api.letters.GetDeadLetter(a.ctx, connect.NewRequest(&adminv1.GetDeadLetterRequest{Sequence: c.N, MaxPayloadBytes: maxShown}))
	if err != nil {
		return err
	}
	if c.JSON {
		return printMessage(a.out, resp.Msg)
	}
	return printLetter(a, resp.Msg)
}

func printLetter(a *app, m *adminv1.GetDeadLetterResponse) error {
	l := m.GetDeadLetter()
	t := newTable(a.out)
	t.row("dead letter", l.GetSequence())
	t.row("state", letterWord(l))
	t.row("group", l.GetFingerprint())
	if r := l.GetReplayed(); r != nil {
		t.row("replayed", fmt.Sprintf("%s as %s, %s", stamp(r.GetAt()), r.GetMsgId(), place(r.GetPosition())))
	}
	if why := l.GetDiscardReason(); why != "" {
		t.row("discarded", fmt.Sprintf("%s: %s", stamp(l.GetDiscardedAt()), why))
	}
	at := l.GetAttributes()
	t.row("event", orDash(at.GetId()))
	t.row("type", orDash(at.GetType()))
	t.row("source", orDash(withAccount(at.GetSource(), at.GetAccount())))
	t.row("stage", l.GetStage()+" "+l.GetName())
	t.row("reason", l.GetErrorClass()+": "+l.GetMessage())
	if d := m.GetDetail(); d != "" {
		t.row("detail", shorten(d, 500))
	}
	t.row("attempts", l.GetAttempts())
	t.row("first", stamp(l.GetFirstAt()))
	t.row("last", stamp(l.GetLastAt()))
	t.row("trace", orDash(l.GetTraceId()))
	t.row("original", place(l.GetOriginal())+", "+orDash(l.GetSubject()))
	if err := t.flush(); err != nil {
		return err
	}
	if l.GetPayloadMissing() {
		_, err := fmt.Fprintln(a.out, "\nthe payload is gone: the stream no longer had it when the letter was made")
		return err
	}
	fmt.Fprintln(a.out)
	if err := printPayload(a.out, m.GetPayload(), m.GetPayloadBytes(), m.GetTruncated()); err != nil || !l.GetEdited() {
		return err
	}
	fmt.Fprintf(a.out, "\nedited, which a replay sends instead, by %s:\n", printable(m.GetPatch()))
	return printPayload(a.out, m.GetEditedPayload(), uint64(len(m.GetEditedPayload())), false)
}
