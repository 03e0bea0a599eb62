package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
)

// errUnusable marks events that no retry can help.
var errUnusable = errors.New("unusable event")

// worker has the effect of events, and what is needed to have it once.
type worker struct {
	seen    jetstream.KeyValue // ids of events that were dealt with
	records jetstream.KeyValue // the newest state of each record
	js      jetstream.JetStream
	dead    string // subject of dead letters
	log     *slog.Logger
}

func newWorker(ctx context.Context, js jetstream.JetStream, team string) (*worker, error) {
	// As long as a repeat may come; a replay of something older is still caught
	// by the record's version.
	seen, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: team + "_seen", TTL: 7 * 24 * time.Hour})
	if err != nil {
		return nil, fmt.Errorf("bucket %s_seen: %w", team, err)
	}
	records, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: team + "_records"})
	if err != nil {
		return nil, fmt.Errorf("bucket %s_records: %w", team, err)
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: strings.ToUpper(team) + "_DLQ", Subjects: []string{team + ".dlq"}})
	if err != nil {
		return nil, fmt.Errorf("dead-letter stream: %w", err)
	}
	return &worker{seen: seen, records: records, js: js, dead: team + ".dlq"}, nil
}

// handle has the event's effect and says what it was.
func (w *worker) handle(ctx context.Context, m jetstream.Msg) (outcome string, err error) {
	e, err := decode(m)
	if err != nil {
		return "", err
	}
	// An id is unique within source and account.
	id := key(e.Attributes.Source, e.Attributes.Account, e.Attributes.Id)
	switch _, err := w.seen.Get(ctx, id); {
	case err == nil:
		return "repeated", nil
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return "", err
	}
	if e.Attributes.Resource == "" {
		outcome = "no record"
	} else if outcome, err = w.keep(ctx, e); err != nil {
		return "", err
	}
	// Only now: an event that is marked before its effect may never have it.
	_, err = w.seen.Put(ctx, id, nil)
	return outcome, err
}

// state is what is kept of a record.
type state struct {
	Version    string          `json:"version"`
	ObservedAt time.Time       `json:"observed_at"`
	Deleted    bool            `json:"deleted,omitempty"`
	Record     json.RawMessage `json:"record,omitempty"`
}

// newer reports whether s is a later state than old: a record's states go by
// version, and whether it is gone goes by when the source was asked.
func (s state) newer(old state) bool {
	if s.Deleted || old.Deleted || s.Version == old.Version {
		return s.ObservedAt.After(old.ObservedAt)
	}
	return s.Version > old.Version
}

// keep stores the record's state if it is newer than what is there. Another
// worker of the team may do the same at the same time, so it is put in place of
// exactly what was read.
func (w *worker) keep(ctx context.Context, e *eventv1.Event) (outcome string, err error) {
	a := e.Attributes
	s := state{Version: a.Version, ObservedAt: a.ObservedAt.AsTime(), Deleted: e.Body.Deleted}
	if !s.Deleted {
		if s.Record, err = protojson.Marshal(e.Body.Record); err != nil {
			return "", fmt.Errorf("%w: record: %w", errUnusable, err)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("%w: record: %w", errUnusable, err)
	}
	name := key(a.Source, a.Account, a.Resource, a.Subject)
	had, err := w.records.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		_, err = w.records.Create(ctx, name, text)
		return "new", err
	}
	if err != nil {
		return "", err
	}
	var old state
	if err := json.Unmarshal(had.Value(), &old); err != nil {
		return "", fmt.Errorf("%w: what is kept of the record: %w", errUnusable, err)
	}
	if !s.newer(old) {
		return "not newer", nil
	}
	_, err = w.records.Update(ctx, name, text, had.Revision())
	return "updated", err
}

// bury stores the message as it is, and why it could not be dealt with.
func (w *worker) bury(ctx context.Context, m jetstream.Msg, why error) error {
	letter := &nats.Msg{Subject: w.dead, Header: nats.Header{}, Data: m.Data()}
	for name, values := range m.Headers() {
		letter.Header[name] = values
	}
	letter.Header.Set("Dead-Letter-Subject", m.Subject())
	letter.Header.Set("Dead-Letter-Error", strings.Map(printable, why.Error()))
	_, err := w.js.PublishMsg(ctx, letter)
	return err
}

func printable(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

// key is a key of a bucket for any parts.
func key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// decode reads an enriched event: attributes from the headers, whose values are
// percent-encoded, and the body.
func decode(m jetstream.Msg) (*eventv1.Event, error) {
	e := &eventv1.Event{Attributes: &eventv1.Attributes{}, Body: &eventv1.Body{}}
	// Later versions may have more than this program knows.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(m.Data(), e.Body); err != nil {
		return nil, fmt.Errorf("%w: body: %w", errUnusable, err)
	}
	a := e.Attributes
	var about string
	for name, to := range map[string]*string{
		"ce-id": &a.Id, "ce-source": &about, "ce-type": &a.Type, "ce-subject": &a.Subject,
		"tercel-resource": &a.Resource, "tercel-version": &a.Version,
	} {
		value, err := url.PathUnescape(m.Headers().Get(name))
		if err != nil {
			return nil, fmt.Errorf("%w: header %s: %w", errUnusable, name, err)
		}
		*to = value
	}
	parts := strings.Split(about, "/") // /sources/SOURCE/ACCOUNT
	if a.Id == "" || len(parts) != 4 {
		return nil, fmt.Errorf("%w: no ce-id or ce-source", errUnusable)
	}
	a.Source, a.Account = parts[2], parts[3]
	if at := m.Headers().Get("tercel-observed-at"); at != "" {
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return nil, fmt.Errorf("%w: header tercel-observed-at: %w", errUnusable, err)
		}
		a.ObservedAt = timestamppb.New(t)
	}
	return e, nil
}
