package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

type showCmd struct {
	pipelineFlags
	ID     string `arg:"" help:"The event's id, the provider's id of a delivery, or a record's id."`
	Source string `help:"Look at this source's events only, which is faster." placeholder:"NAME"`
	JSON   bool   `name:"json" help:"Print one JSON object for each message."`
}

// Help is shown by --help.
func (showCmd) Help() string {
	return `Shows each stored message with its payload: the trigger as it was received, and what was made of it. What the
source's redact names is left out. Exits 1 when nothing has the id.

Example:
  tercel event show evt_1NG8Du2eZvKYlo2C --source stripe`
}

// storedMessage is a message as it is shown.
type storedMessage struct {
	Stream        string              `json:"stream"`
	Sequence      uint64              `json:"sequence"`
	StoredAt      time.Time           `json:"stored_at"`
	Subject       string              `json:"subject"`
	Header        map[string][]string `json:"header"`
	Payload       jsontext.Value      `json:"payload,omitempty"`
	PayloadBase64 []byte              `json:"payload_base64,omitempty"`
}

// Run runs the command.
func (c showCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	rules, err := redact.Load(a.ctx, nc.js)
	if err != nil {
		return err
	}
	index, err := openIndex(a.ctx, nc, c.Source)
	if err != nil {
		return err
	}
	found, err := index.Find(a.ctx, timeline.Query{ID: c.ID, Source: c.Source})
	if err != nil {
		return err
	}
	n := 0
	for _, m := range found.Messages {
		if m.Stream != topology.StreamRaw && m.Stream != topology.StreamEnriched {
			continue // dead letters and reports have commands of their own
		}
		n++
		if err := c.print(a, m, rules.Of(m.Event.Source).Show(m.Subject, m.Event, m.Data)); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("nothing stored has the id %s; it may be older than the streams keep", c.ID)
	}
	return nil
}

func (c showCmd) print(a *app, m timeline.Message, shown redact.Shown) error {
	if c.JSON {
		s := storedMessage{Stream: m.Stream, Sequence: m.Sequence, StoredAt: m.StoredAt, Subject: m.Subject, Header: event.Shown(m.Header)}
		if v := jsontext.Value(shown.Payload); v.IsValid() {
			s.Payload = v
		} else {
			s.PayloadBase64 = shown.Payload
		}
		return printLine(a.out, s)
	}
	fmt.Fprintf(a.out, "%s %d, stored %s as %s\n", m.Stream, m.Sequence, stamp(m.StoredAt), printable(m.Subject))
	_, err := fmt.Fprintf(a.out, "%s\n\n", printable(string(shown.Payload)))
	return err
}

// openIndex reads what the streams hold of a source, or of all for "".
func openIndex(ctx context.Context, nc *connection, source string) (*timeline.Index, error) {
	index, err := timeline.New(timeline.Config{Source: source}, timeline.Deps{JetStream: nc.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return index, index.Fill(ctx)
}
