package api_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/event"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/api"
)

// A page token is either what was given out for the request, or refused.
func FuzzPageToken(f *testing.F) {
	req := &adminv1.ListEventsRequest{Filter: &adminv1.EventFilter{Source: "orders"}, PageSize: 7}
	f.Add(api.NextPage(req, 42), "orders", uint64(42))
	f.Add(api.NextPage(req, 42), "bills", uint64(7))
	f.Add("", "orders", uint64(0))
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 25)), "orders", uint64(1))
	f.Fuzz(func(t *testing.T, token, source string, before uint64) {
		req := &adminv1.ListEventsRequest{Filter: &adminv1.EventFilter{Source: strings.ToValidUTF8(source, "")}, PageToken: token}
		if got, _, err := api.Page(req); err == nil && token != "" && api.NextPage(req, got) != token {
			t.Errorf("the token %q was taken as %d, whose token is another", token, got)
		}
		if before == 0 {
			return
		}
		req.PageToken = api.NextPage(req, before)
		if got, _, err := api.Page(req); err != nil || got != before {
			t.Errorf("Page() of the token for %d = %d, %v", before, got, err)
		}
		other, _ := proto.Clone(req).(*adminv1.ListEventsRequest)
		other.Filter.Account += "x"
		if _, _, err := api.Page(other); err == nil {
			t.Error("a token was taken with another filter")
		}
	})
}

// The subjects of a filter are valid, and hold every event that it chooses: what
// they leave out on the server would never be found.
func FuzzEventFilter(f *testing.F) {
	f.Add("orders", "_", "order.*", "orders", "_", "order.paid")
	f.Add("", "acct 1", ">", "bills", "acct 1", "a.b.c")
	f.Add("", "", "*.>", "x", "_", "a..b")
	f.Add("", "", strings.Repeat("a.", 11)+">", "x", "_", strings.Repeat("a.", 14)+"b")
	f.Add("", "", "a.*", "x", "_", "a."+strings.Repeat("b", 300))
	f.Add("", "", "*", "x", "_", strings.Repeat("b", 300))
	f.Add("", "", "", "x", "_", "")
	f.Add("", "", strings.Repeat("a.", 12)+"a", "x", "_", strings.Repeat("a.", 12)+"a")   // cut
	f.Add("", "", "a."+strings.Repeat("b", 300), "x", "_", "a."+strings.Repeat("b", 300)) // cut too
	f.Add("", "", strings.Repeat("é", 80)+".*", "x", "_", strings.Repeat("é", 80)+".a")   // cut once it is escaped
	f.Fuzz(func(t *testing.T, source, account, pattern, ofSource, ofAccount, typ string) {
		filter, err := api.NewFilter(&adminv1.EventFilter{Source: source, Account: account, Type: pattern})
		if err != nil {
			return
		}
		subjects := filter.Subjects(event.PrefixRaw)
		for _, s := range subjects {
			for i, part := range strings.Split(s, ".") {
				if part == "" || strings.ContainsAny(part, " \t\r\n\x00") || len(part) > 1 && strings.ContainsAny(part, "*>") || !utf8.ValidString(part) {
					t.Fatalf("subject %q: part %d is none of a filter", s, i)
				}
			}
			if len(s) > 4000 {
				t.Fatalf("a subject of %d bytes ends the connection", len(s))
			}
		}
		if ofSource == "" || strings.ContainsAny(ofSource, ".*> ") {
			return // no source is called so
		}
		e := event.Event{Source: event.Escape(ofSource), Account: ofAccount, Type: typ}
		if e.Account == "" {
			e.Account = event.NoAccount
		}
		if !filter.Chooses(e) {
			return
		}
		for _, s := range subjects {
			if event.Match(s, e.RawSubject()) {
				return
			}
		}
		t.Errorf("the filter chooses %+v, but its subjects %v don't hold %s", e, subjects, e.RawSubject())
	})
}

// An audit record is bounded, one line, and has no contents of events.
func FuzzRecorded(f *testing.F) {
	f.Add("orders", "why", []byte("planted"), int32(3))
	f.Fuzz(func(t *testing.T, source, reason string, content []byte, n int32) {
		source, reason = strings.ToValidUTF8(source, ""), strings.ToValidUTF8(reason, "")
		m := &adminv1.GetEventResponse{Triggers: []*adminv1.StoredMessage{{Payload: append([]byte("planted"), content...), Subject: source, TraceId: reason}}}
		text := api.Recorded(m)
		if len(text) > 4200 || strings.Contains(text, "\n") || strings.Contains(text, `"payload"`) {
			t.Errorf("recorded %d bytes: %s", len(text), text)
		}
	})
}

// What differs between two texts is told with its place, and nothing else.
func FuzzChanges(f *testing.F) {
	f.Add([]byte(`{"a":{"b/c":[1,2]}}`), []byte(`{"a":{"b/c":[1,3,4],"~":null}}`))
	f.Add([]byte(`1`), []byte(`"1"`))
	f.Add([]byte(`{}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		same, _ := api.Changes(before, before)
		if len(same) != 0 {
			t.Errorf("%s differs from itself: %v", before, same)
		}
		all, truncated := api.Changes(before, after)
		var a, b any
		if json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil {
			return
		}
		if len(all) > 200 || truncated && len(all) != 200 {
			t.Errorf("%d changes, truncated %t", len(all), truncated)
		}
		for _, c := range all {
			if c.GetBefore() == c.GetAfter() && len(c.GetBefore()) < 1024 {
				t.Errorf("%s is told as a change from %s to the same", c.GetPath(), c.GetBefore())
			}
		}
	})
}
