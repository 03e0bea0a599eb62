package console_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// What a caller made up is refused with a code, a reason and the field at fault;
// nothing of it is heeded by half.
func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	long := strings.Repeat("x", 1025)
	token := base64.RawURLEncoding.EncodeToString(make([]byte, 25))
	for name, tt := range map[string]struct {
		method, body string
		want         string // reason, or code where the message can't be read
		field        string
	}{
		"a misspelled field":        {"EventService/ListEvents", `{"filter":{"sourc":"orders"}}`, "invalid_argument", ""},
		"no JSON":                   {"EventService/ListEvents", `{`, "invalid_argument", ""},
		"an array":                  {"EventService/ListEvents", `[]`, "invalid_argument", ""},
		"nothing":                   {"EventService/ListEvents", ``, "invalid_argument", ""},
		"a member twice":            {"EventService/ListEvents", `{"pageSize":1,"pageSize":2}`, "invalid_argument", ""},
		"broken UTF-8":              {"EventService/ListEvents", "{\"pageToken\":\"\xff\"}", "invalid_argument", ""},
		"a time beyond all":         {"EventService/ListEvents", `{"filter":{"since":"99999-01-01T00:00:00Z"}}`, "invalid_argument", ""},
		"deep nesting":              {"EventService/ListEvents", strings.Repeat(`{"filter":`, 20_000), "invalid_argument", ""},
		"too large a message":       {"EventService/ListEvents", `{"pageToken":"` + strings.Repeat("x", 3<<20) + `"}`, "resource_exhausted", ""},
		"too large a page":          {"EventService/ListEvents", `{"pageSize":501}`, "REASON_INVALID_FIELD", "page_size"},
		"a made-up page token":      {"EventService/ListEvents", `{"pageToken":"1"}`, "REASON_INVALID_PAGE_TOKEN", "page_token"},
		"a well-formed page token":  {"EventService/ListEvents", `{"pageToken":"` + token + `"}`, "REASON_INVALID_PAGE_TOKEN", "page_token"},
		"an audit page token":       {"PipelineService/ListAuditRecords", `{"pageToken":"` + token + `"}`, "REASON_INVALID_PAGE_TOKEN", "page_token"},
		"a pattern that goes on":    {"EventService/ListEvents", `{"filter":{"type":"a.>.b"}}`, "REASON_INVALID_FIELD", "filter.type"},
		"too long a source":         {"EventService/ListEvents", `{"filter":{"source":"` + long + `"}}`, "REASON_INVALID_FIELD", "filter.source"},
		"an unknown status":         {"EventService/ListEvents", `{"filter":{"status":[77]}}`, "REASON_INVALID_FIELD", "filter.status"},
		"no status at all":          {"EventService/ListEvents", `{"filter":{"status":[0]}}`, "REASON_INVALID_FIELD", "filter.status"},
		"an unknown origin":         {"EventService/ListEvents", `{"filter":{"origin":[77]}}`, "REASON_INVALID_FIELD", "filter.origin"},
		"an end before the start":   {"EventService/ListEvents", `{"filter":{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}}`, "REASON_INVALID_FIELD", "filter.until"},
		"no id":                     {"EventService/GetEvent", `{}`, "REASON_INVALID_FIELD", "id"},
		"too long an id":            {"EventService/TraceEvent", `{"id":"` + long + `"}`, "REASON_INVALID_FIELD", "id"},
		"an unknown kind of id":     {"EventService/TraceEvent", `{"id":"x","kind":77}`, "REASON_INVALID_FIELD", "kind"},
		"too many events":           {"EventService/TraceEvent", `{"id":"x","maxEvents":201}`, "REASON_INVALID_FIELD", "max_events"},
		"too much payload":          {"EventService/GetEvent", `{"id":"x","maxPayloadBytes":4194305}`, "REASON_INVALID_FIELD", "max_payload_bytes"},
		"a letter without number":   {"DeadLetterService/GetDeadLetter", `{}`, "REASON_INVALID_FIELD", "sequence"},
		"a stage that isn't there":  {"DeadLetterService/ListDeadLetters", `{"filter":{"stage":"fly"}}`, "REASON_INVALID_FIELD", "filter.stage"},
		"a state that isn't there":  {"DeadLetterService/ListDeadLetterGroups", `{"filter":{"state":[77]}}`, "REASON_INVALID_FIELD", "filter.state"},
		"a replay from nowhere":     {"DeadLetterService/PlanDeadLetterReplay", `{"stage":77}`, "REASON_INVALID_FIELD", "stage"},
		"a discard of everything":   {"DeadLetterService/DiscardDeadLetters", `{"reason":"x","expected":1}`, "REASON_INVALID_FIELD", "filter"},
		"a discard without number":  {"DeadLetterService/DiscardDeadLetters", `{"reason":"x","filter":{"source":"orders"}}`, "REASON_INVALID_FIELD", "expected"},
		"a replay of everything":    {"EventService/PlanEventReplay", `{}`, "REASON_INVALID_FIELD", "filter"},
		"a method that isn't there": {"EventService/DropEverything", `{}`, "404", ""},
		"another path":              {"EventService/../EventService/GetEvent", `{}`, "404", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := f.post(operatorToken, tt.method, tt.body)
			got := a.reason
			switch {
			case a.status == http.StatusNotFound && a.code == "":
				got = "404"
			case got == "":
				got = a.code
			}
			if got != tt.want || a.field != tt.field {
				t.Errorf("answered %d %s; want %s, field %q", a.status, a.text, tt.want, tt.field)
			}
		})
	}
}

// A newer caller's field that this version doesn't know is not passed over.
func TestUnknownFieldsAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	filter := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "only these")
	body := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), filter)
	req, err := http.NewRequest(http.MethodPost, f.url+"/tercel.admin.v1.EventService/ListEvents", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/proto")
	req.Header.Set("Authorization", "Bearer "+viewerToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("answered %s, want 400", resp.Status)
	}
}

// A page's token is good for its own list and filter alone.
func TestAPageTokenIsOfItsRequest(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	for i := range 3 {
		p.store(trigger(fmt.Sprint("evt-", i), "order.paid"), `{}`)
	}
	first, err := p.events.ListEvents(t.Context(), connect.NewRequest(&adminv1.ListEventsRequest{PageSize: 1, Filter: &adminv1.EventFilter{Source: "orders"}}))
	if err != nil || first.Msg.GetNextPageToken() == "" {
		t.Fatal(first, err)
	}
	token := first.Msg.GetNextPageToken()
	list := func(r *adminv1.ListEventsRequest) error {
		_, err := p.events.ListEvents(t.Context(), connect.NewRequest(r))
		return err
	}
	if err := list(&adminv1.ListEventsRequest{PageSize: 7, Filter: &adminv1.EventFilter{Source: "orders"}, PageToken: token}); err != nil {
		t.Errorf("with another size of pages: %v", err)
	}
	for name, r := range map[string]*adminv1.ListEventsRequest{
		"another filter": {Filter: &adminv1.EventFilter{Source: "bills"}, PageToken: token},
		"no filter":      {PageToken: token},
		"a changed one":  {Filter: &adminv1.EventFilter{Source: "orders"}, PageToken: changed(token)},
		"a longer one":   {Filter: &adminv1.EventFilter{Source: "orders"}, PageToken: token + "A"},
		"padded":         {Filter: &adminv1.EventFilter{Source: "orders"}, PageToken: token + "="},
	} {
		if err := list(r); reasonOf(err) != adminv1.Reason_REASON_INVALID_PAGE_TOKEN {
			t.Errorf("%s: %v, want REASON_INVALID_PAGE_TOKEN", name, err)
		}
	}
	_, err = p.letters.ListDeadLetters(t.Context(), connect.NewRequest(&adminv1.ListDeadLettersRequest{PageToken: token}))
	if reasonOf(err) != adminv1.Reason_REASON_INVALID_PAGE_TOKEN {
		t.Errorf("another list: %v, want REASON_INVALID_PAGE_TOKEN", err)
	}
}

// What senders made up is told as valid text, whatever it was.
func TestPayloadsAndTypesOfAllKindsAreTold(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	payloads := map[string]string{
		"evt-markup":  `{"html":"<script>alert(1)</script>"}`,
		"evt-control": "{\"a\":\"\\u0000\\u001b[31m\"}",
		"evt-broken":  "\xff\xfe{",
		"evt-empty":   "",
		"evt-deep":    strings.Repeat("[", 5000),
	}
	for id, body := range payloads {
		p.sick.Store("enrich", "not today")
		e := trigger(id, "order.\x00\x1b\u202e*.>")
		e.DeliveryID = "delivery \r\n\x7f " + id
		p.store(e, body)
	}
	for id, body := range payloads {
		p.awaitStatus(id, adminv1.EventStatus_EVENT_STATUS_DEAD_LETTER)
		resp, err := p.events.GetEvent(t.Context(), connect.NewRequest(&adminv1.GetEventRequest{Id: id}))
		if err != nil || len(resp.Msg.GetTriggers()) != 1 {
			t.Fatalf("%s: %v, %v", id, resp, err)
		}
		m := resp.Msg.GetTriggers()[0]
		if got := string(m.GetPayload()); got != body && !m.GetRedacted() {
			t.Errorf("%s: the payload is %q, want %q or a mark in its place", id, got, body)
		}
		if _, err := proto.Marshal(resp.Msg); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if ids, _ := p.list(&adminv1.EventFilter{Type: "order.\x00\x1b\u202e*.>"}, 0); len(ids) != len(payloads) {
		t.Errorf("by its type: %v", ids)
	}
	if got := p.listLetters(nil, 2); len(got) != len(payloads) {
		t.Errorf("letters: %v", got)
	}
}

// A pipeline that is away is told as such, within the bound of a call.
func TestAPipelineThatIsAwayIsToldSo(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	if err := p.js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	_, err := p.pipeline.GetPipelineStatus(t.Context(), connect.NewRequest(&adminv1.GetPipelineStatusRequest{}))
	if connect.CodeOf(err) != connect.CodeUnavailable || reasonOf(err) != adminv1.Reason_REASON_PIPELINE_UNAVAILABLE {
		t.Errorf("without a stream: %v, want REASON_PIPELINE_UNAVAILABLE", err)
	}
}

// Streams are bounded in number; the one too many is told so.
func TestTailsAreBounded(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := 0
	for {
		tail, err := p.events.TailEvents(ctx, connect.NewRequest(&adminv1.TailEventsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tail.Close() }()
		if !tail.Receive() {
			if reasonOf(tail.Err()) != adminv1.Reason_REASON_TOO_MANY_STREAMS {
				t.Fatalf("tail %d: %v", open, tail.Err())
			}
			break
		}
		open++
	}
	if open != 64 {
		t.Errorf("%d tails were open at once, want 64", open)
	}
	if _, err := p.pipeline.GetCaller(ctx, connect.NewRequest(&adminv1.GetCallerRequest{})); err != nil {
		t.Errorf("another call meanwhile: %v", err)
	}
}

// What a caller sends that can't be read is the caller's fault, also where the
// libraries below would call it ours.
func TestUnreadableCallsAreTheCallersFault(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, encoding := range []string{"br", "gzip, gzip", "nonsense"} {
		a := f.post(viewerToken, "EventService/ListEvents", `{}`, func(r *http.Request) { r.Header.Set("Content-Encoding", encoding) })
		if a.status != http.StatusUnsupportedMediaType || a.header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%s: answered %d %s, want 415 and what is taken", encoding, a.status, a.text)
		}
	}
	for name, request := range map[string]string{
		"another version":   "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
		"an unknown coding": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("%s: answered %q, %v, want 400", name, got, err)
		}
	}
}
