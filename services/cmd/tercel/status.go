package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/status"
)

type statusCmd struct {
	pipelineFlags
	JSON bool `name:"json" help:"Print the status as one JSON object."`
}

// Help is shown by --help.
func (statusCmd) Help() string {
	return `Asks the NATS server, so it works whichever process runs the services.

Example:
  tercel status --nats nats://nats:4222`
}

// shownStatus is the pipeline as the server at that address sees it.
type shownStatus struct {
	Server string `json:"server"`
	status.Status
}

// Run runs the command.
func (c statusCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	read, err := status.Read(ctx, nc.js)
	if err != nil {
		return err
	}
	s := shownStatus{withoutToken(nc.ConnectedUrlRedacted()), read}
	if c.JSON {
		return printJSON(a.out, s)
	}
	return printStatus(a.out, s)
}

func printStatus(w io.Writer, s shownStatus) error {
	t := newTable(w, "stream", "messages", "bytes", "last", "replicas")
	for _, x := range s.Streams {
		t.row(x.Name, x.Messages, x.Bytes, stamp(x.Last), x.Replicas)
	}
	fmt.Fprintln(t.w)
	fmt.Fprintln(t.w, "STAGE\tPENDING\tIN HAND\tREDELIVERED\tBEHIND\tLAST ACK")
	for _, x := range s.Stages {
		last := ago(x.LastAck)
		if !x.PausedUntil.IsZero() {
			last = "paused " + untilWhen(time.Until(x.PausedUntil))
		}
		t.row(x.Stage+" "+x.Name, x.Pending, x.InHand, x.Redelivered, x.Behind, last)
	}
	if len(s.Accounts) > 0 {
		fmt.Fprintln(t.w)
		fmt.Fprintln(t.w, "SOURCE\tACCOUNTS\tBUCKET")
		for _, x := range s.Accounts {
			t.row(x.Source, x.Accounts, x.Bucket)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := printFindings(w, s.Findings); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printResources(w, s.Reconciled); err != nil || len(s.Sources) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printSources(w, s.Sources)
}

// untilWhen tells how long a pause has yet to last.
func untilWhen(left time.Duration) string {
	if left > topology.UntilResumed/2 {
		return "until it is resumed"
	}
	return "until " + stamp(time.Now().Add(left))
}
