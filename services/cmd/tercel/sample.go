package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/sink"
)

// sample is a webhook whose way is tried, with the functions of the stages
// themselves.
type sample struct {
	source   string
	raw      []byte // the HTTP request
	at       time.Time
	unsigned bool   // its signature isn't looked at
	typ      string // the event type, instead of what the request says; "" for none
	noID     bool   // it has no delivery id: the body's hash serves
	api      enricher.Caller
}

// tried is what becomes of a sample. Expectations of test files are held
// against it as JSON. What became of the one event of a request stands beside
// the rest; several are a list.
type tried struct {
	Source    string         `json:"source"`
	Accepted  bool           `json:"accepted"`
	Status    int            `json:"status"`
	Handshake string         `json:"handshake"`
	Steps     []ingress.Step `json:"steps"`
	*triedEvent
	Events []*triedEvent `json:"events"`

	triggers []*nats.Msg
}

// triedEvent is one enriched event, or a trigger that leads to none.
type triedEvent struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Account string `json:"account"`
	// Dropped says that the source's drop leaves it out.
	Dropped  bool     `json:"dropped"`
	Resource string   `json:"resource"`
	RecordID string   `json:"record_id"`
	Version  string   `json:"version"`
	Deleted  bool     `json:"deleted"`
	Requests []string `json:"requests"`
	// Error is with what the trigger would become a dead letter, or be tried
	// again, or "".
	Error        string                   `json:"error"`
	Body         jsontext.Value           `json:"body"`
	Destinations map[string]triedDelivery `json:"destinations"`
}

// triedDelivery is what one destination would do with an event.
type triedDelivery struct {
	Delivered bool `json:"delivered"`
	// Why says why it is not delivered, or "".
	Why     string         `json:"why"`
	Payload jsontext.Value `json:"payload"`
	Error   string         `json:"error"`
}

// failed reports whether anything would be refused or become a dead letter.
// Unasked says that it was no failure to get no answer from the API.
func (t tried) failed(unasked bool) bool {
	bad := !t.Accepted
	for _, e := range t.Events {
		bad = bad || e.Error != "" && !(unasked && strings.HasSuffix(e.Error, notAsked))
		for _, d := range e.Destinations {
			bad = bad || d.Error != ""
		}
	}
	return bad
}

// try takes a sample through all stages. The error means that it can't be tried.
func (s sample) try(ctx context.Context, file *pipeline.File) (tried, error) {
	src, err := sourceOf(file, s.source)
	if err != nil {
		return tried{}, err
	}
	if s.typ != "" {
		text, err := field.ParseTemplate(strings.NewReplacer("{", "_", "}", "_").Replace(s.typ))
		if err != nil {
			return tried{}, err
		}
		src.Event.Type = provider.TriggerExpr{text}
	}
	if s.noID {
		src.Event.ID = nil
	}
	explain := ingress.Explain
	if s.unsigned {
		explain = ingress.ExplainUnsigned
	}
	ex, err := explain(s.source, src, s.raw, s.at)
	if err != nil {
		return tried{}, err
	}
	t := tried{Source: s.source, Accepted: ex.Accepted, Status: ex.Status, Handshake: ex.Handshake, Steps: ex.Steps, Events: []*triedEvent{}, triggers: ex.Messages}
	for _, msg := range ex.Messages {
		events, err := s.enrich(ctx, src, msg, file.Destinations)
		if err != nil {
			return tried{}, err
		}
		t.Events = append(t.Events, events...)
	}
	if len(t.Events) == 1 {
		t.triedEvent = t.Events[0]
	}
	return t, nil
}

// redact leaves out what the source's rules say, of all that a sample became.
func (t *tried) redact(rules redact.Rules) {
	if rules.IsZero() {
		return
	}
	var shown redact.Shown
	for _, m := range t.triggers {
		e, _ := event.FromHeader(m.Header) // of our own making
		shown = shown.With(rules.Show(m.Subject, e, m.Data))
	}
	for _, e := range t.Events {
		if string(e.Body) != "null" {
			one := rules.Show(event.PrefixEnriched+".", event.Event{}, e.Body)
			e.Body, shown = one.Payload, shown.With(one)
		}
	}
	for i := range t.Steps {
		t.Steps[i].Detail = shown.Text(t.Steps[i].Detail)
	}
	for _, e := range t.Events {
		e.Error = shown.Text(e.Error)
		for i := range e.Requests {
			e.Requests[i] = shown.Text(e.Requests[i])
		}
		for name, d := range e.Destinations {
			d.Error, d.Payload = shown.Text(d.Error), shown.JSON(d.Payload)
			e.Destinations[name] = d
		}
	}
}

func sourceOf(file *pipeline.File, name string) (provider.Source, error) {
	src, ok := file.Sources[name]
	if !ok {
		return src, fmt.Errorf("the pipeline file has no source %q; want one of %s", name,
			strings.Join(slices.Sorted(maps.Keys(file.Sources)), ", "))
	}
	return src, nil
}

// enrich takes a trigger through the enricher and its events to the destinations.
func (s sample) enrich(
	ctx context.Context, src provider.Source, msg *nats.Msg, destinations map[string]pipeline.Destination,
) ([]*triedEvent, error) {
	asked := &asking{api: s.api}
	ex, err := enricher.Explain(ctx, s.source, src, msg, asked)
	var all []*triedEvent
	for _, m := range ex.Events {
		e, failed := event.FromHeader(m.Header)
		if failed != nil {
			return nil, failed
		}
		one := newTried(e, asked.paths)
		one.Body = m.Data
		for name, d := range destinations {
			one.Destinations[name] = deliver(ctx, d, m)
		}
		all = append(all, one)
	}
	if err == nil && !ex.Dropped {
		return all, nil
	}
	e, failed := event.FromHeader(msg.Header)
	if failed != nil {
		return nil, failed
	}
	one := newTried(e, asked.paths)
	if one.Dropped = ex.Dropped; err != nil {
		one.Error = err.Error()
	}
	return append(all, one), nil
}

func newTried(e event.Event, requests []string) *triedEvent {
	return &triedEvent{
		ID: e.ID, Type: e.Type, Account: e.Account, Resource: e.Resource, RecordID: e.RecordID, Version: string(e.Version),
		Deleted: e.Deleted, Requests: append([]string{}, requests...), Destinations: map[string]triedDelivery{},
		Body: jsontext.Value("null"),
	}
}

func deliver(ctx context.Context, d pipeline.Destination, m *nats.Msg) triedDelivery {
	ex, err := sink.Explain(ctx, d, m)
	t := triedDelivery{Delivered: err == nil && ex.Wanted, Payload: jsontext.Value("null")}
	switch {
	case err != nil:
		t.Error = err.Error()
	case !ex.Subscribed:
		t.Why = "not subscribed"
	case !ex.Wanted:
		t.Why = "its when says false"
	default:
		t.Payload = ex.Payload
	}
	return t
}

// bodyRequest makes an HTTP request of a JSON body.
func bodyRequest(source, account string, headers map[string]string, body []byte) ([]byte, error) {
	path := "/v1/" + source
	if account != "" {
		path += "/" + account
	}
	req, err := http.NewRequest(http.MethodPost, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return b.Bytes(), err
}

// readSample reads a file, or standard input for "-".
func readSample(in io.Reader, path string) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxCaptured+1))
	if err == nil && len(raw) > maxCaptured {
		err = fmt.Errorf("%s: larger than any request that is taken", path)
	}
	return raw, err
}

// lacksID reports whether a source's delivery id is in a header that a request
// doesn't have.
func lacksID(src provider.Source, raw []byte) bool {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil || len(src.Event.ID) == 0 {
		return false
	}
	for _, e := range src.Event.ID {
		missing := false
		for name := range e.Headers() {
			missing = missing || req.Header.Get(name) == ""
		}
		if !missing {
			return false
		}
	}
	return true
}
