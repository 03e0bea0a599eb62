package ingress_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress"
)

const commandable = `
sources:
  several:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {split: body, id: item.id, type: item.kind}
    request: {encodings: [gzip], signed: decoded}
  packed:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:PLAIN]
    event: {id: body.id, type: body.kind}
    request: {encodings: [gzip]}
  naming:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{signed_headers:X-Signed-Headers}.{body}"}
    secrets: [env:PLAIN]
    event: {type: body.kind}
`

// commands are headers by which a message tells a NATS server what to do.
var commands = http.Header{
	"Nats-Rollup": {"all"}, "Nats-Ttl": {"1s"}, "Nats-Msg-Id": {"mine"}, "Nats-Expected-Stream": {"OTHER"}, "Nats-Expected-Last-Sequence": {"12345"},
	"Nats-Expected-Last-Msg-Id": {"none"}, "Nats-Expected-Last-Subject-Sequence": {"12345"}, "Nats-Expected-Last-Subject-Sequence-Subject": {"a"},
	"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"7"}, "Nats-Batch-Commit": {"eob"}, "Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"tercel.raw.a"},
	"Nats-Incr": {"1"}, "Nats-Required-Api-Level": {"99"}, "Nats-Marker-Reason": {"Purge"},
}

// Who has the secret is a source of events and no master of the server: headers that
// command it do nothing, in whichever way the request is stored, and not when its
// sender has signed them by their names either.
func TestGenuineRequestsCommandNobody(t *testing.T) {
	t.Parallel()
	list := `[{"id":"1","kind":"made"},{"id":"2","kind":"sold"}]`
	for name, tt := range map[string]struct {
		source, signed string
		packed         bool
		stored         int // messages, the request's own among them where it has one
	}{
		"several events":             {"several", list, false, 3},
		"several events, compressed": {"several", list, true, 3},
		"one event, compressed":      {"packed", `{"id":"1","kind":"made"}`, true, 2},
		"signed by their names":      {"naming", `{"kind":"made"}`, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.Sources = read(t, commandable) })
			if r := f.send(f.proven("packed", `{"id":"before","kind":"made"}`, nil)); r.Status != "accepted" {
				t.Fatalf("the one before was answered %+v", r)
			}
			r := f.send(f.commanding(tt.source, tt.signed, tt.packed))
			if r.Status != "accepted" {
				t.Fatalf("answered %+v\n%s", r, f.log)
			}
			msgs := f.all() // fails if one has gone
			if len(msgs) != 1+tt.stored {
				t.Errorf("%d messages stored, want that of before and %d", len(msgs), tt.stored)
			}
			for _, m := range msgs {
				f.commandless(m)
			}
		})
	}
}

// commanding is a genuine delivery of a body with the commands among its headers.
func (f *fixture) commanding(source, body string, compress bool) delivery {
	f.t.Helper()
	src, header := f.sources[source], commands.Clone()
	header.Set("Content-Type", "application/json")
	if src.Verifier().NamesHeaders() {
		names := []string{"x-signed-headers"}
		for name := range commands {
			names = append(names, strings.ToLower(name))
		}
		slices.Sort(names)
		header.Set("X-Signed-Headers", strings.Join(names, ","))
	}
	d := delivery{method: http.MethodPost, path: "/v1/" + source, header: header, body: body}
	if compress {
		d.body = packed(f.t, body)
		d.header.Set("Content-Encoding", "gzip")
	}
	signed := d.body
	if source == "several" { // before it was compressed
		signed = body
	}
	for name, values := range src.Verifier().SignRequest(src.Keys()[0], signature.Request{Header: header, Body: []byte(signed), Method: d.method}, "", at) {
		d.header[name] = values
	}
	return d
}

// commandless checks that a stored message has no command but those of our own: its
// id, and its place in a batch.
func (f *fixture) commandless(m *jetstream.RawStreamMsg) {
	f.t.Helper()
	for name, sent := range commands {
		for header, values := range m.Header {
			if strings.EqualFold(name, header) && slices.Equal(values, sent) {
				f.t.Errorf("%s has %s: %s", m.Subject, header, values)
			}
			if strings.EqualFold(name, header) && !slices.Contains([]string{jetstream.MsgIDHeader, "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"}, header) {
				f.t.Errorf("%s has a header %s", m.Subject, header)
			}
		}
	}
	if id := m.Header.Get(jetstream.MsgIDHeader); m.Header.Get(event.HeaderID) == "" || id == "" {
		f.t.Errorf("%s has the id %q of an event %q", m.Subject, id, m.Header.Get(event.HeaderID))
	}
}
