package event_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
)

func sample() event.Event {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	return event.Event{
		ID: "evt_1", DeliveryID: "d-1", Source: "orders", Account: "north", Type: "order.paid",
		Origin: event.Webhook, ContentType: "application/json; charset=utf-8",
		Time: at, ReceivedAt: at.Add(time.Second), ObservedAt: at.Add(2 * time.Second),
		Resource: "order", RecordID: "7", Version: event.TimeVersion(at), Deleted: true, TriggerSequence: 1 << 60,
		Destinations: "crm,lake", Edited: true,
	}
}

func TestHeadersKeepEveryAttribute(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*event.Event){
		"all set":    func(*event.Event) {},
		"no account": func(e *event.Event) { e.Account = event.NoAccount },
		"thin": func(e *event.Event) {
			*e = event.Event{ID: "1", Source: "s", Account: "_", Type: "t", Origin: event.Replay}
		},
		"quotes and percent":    func(e *event.Event) { e.ID, e.Type = `a"b%c d`, `x "y"` },
		"unicode":               func(e *event.Event) { e.RecordID, e.Account = "Ünïcödé 🦅", "müller" },
		"line breaks":           func(e *event.Event) { e.ID, e.Type = "a\r\nNats-Rollup: all", "t\n\x00" },
		"dots and slashes":      func(e *event.Event) { e.Account, e.RecordID = "a/b.c", "../x" },
		"a space at either end": func(e *event.Event) { e.ID = " id " },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := sample()
			change(&want)
			h := want.Header()
			for k, v := range h {
				if strings.ContainsAny(k+v[0], "\r\n") {
					t.Errorf("header %q holds a line break", k)
				}
			}
			if got := event.DeliveryIDOf(h); got != want.DeliveryID {
				t.Errorf("DeliveryIDOf() = %q, want %q", got, want.DeliveryID)
			}
			got, err := event.FromHeader(h)
			if err != nil || got != want {
				t.Errorf("FromHeader(Header()) = %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestForeignHeadersAreRefusedWithEveryReason(t *testing.T) {
	t.Parallel()
	h := sample().Header()
	h.Del(event.HeaderID)
	h.Set(event.HeaderSource, "elsewhere")
	h.Set(event.HeaderTime, "yesterday")
	h.Set(event.HeaderType, "%zz")
	_, err := event.FromHeader(h)
	if err == nil {
		t.Fatal("FromHeader() took foreign headers")
	}
	for _, want := range []string{event.HeaderID, event.HeaderSource, event.HeaderTime, event.HeaderType} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q doesn't name %s", err, want)
		}
	}
}

func TestSubjectsAreSafeAndReversible(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ typ, want string }{
		"plain":               {"order.paid", "order.paid"},
		"wildcards":           {"*.>", "%2A.%3E"},
		"space and control":   {"a b\n\x00", "a%20b%0A%00"},
		"empty parts":         {".a..", "%.a.%.%"},
		"empty part between":  {"a..b", "a.%.b"},
		"as many as may be":   {"1.2.3.4.5.6.7.8.9.10.11.12", "1.2.3.4.5.6.7.8.9.10.11.12"},
		"empty":               {"", "%"},
		"percent":             {"50%", "50%25"},
		"unicode":             {"ü", "%C3%BC"},
		"underscore and dash": {"new_entries-x", "new_entries-x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := event.TypeTokens(tt.typ)
			if got != tt.want {
				t.Errorf("TypeTokens(%q) = %q, want %q", tt.typ, got, tt.want)
			}
			if back, err := event.TypeFromTokens(got); err != nil || back != tt.typ {
				t.Errorf("TypeFromTokens(%q) = %q, %v, want %q", got, back, err, tt.typ)
			}
		})
	}
}

// A subject of more than 4,096 bytes would cost the ingress its connection.
func TestSubjectsAreBounded(t *testing.T) {
	t.Parallel()
	for name, typ := range map[string]string{
		"long": strings.Repeat("x", 10_000), "many parts": strings.Repeat("a.", 5_000), "one part more": "1.2.3.4.5.6.7.8.9.10.11.12.13", "escaped": strings.Repeat("*", 4_000),
	} {
		e := event.Event{Source: strings.Repeat("s", 63), Account: strings.Repeat("*", 128), Type: typ}
		if n := len(e.RawSubject()); n > 1_000 {
			t.Errorf("%s: subject of %d bytes", name, n)
		}
		other := e
		other.Type += "y"
		if e.RawSubject() == other.RawSubject() {
			t.Errorf("%s: two types share a subject", name)
		}
		if _, err := event.TypeFromTokens(event.TypeTokens(typ)); err == nil {
			t.Errorf("%s: a cut type was given back as if it were whole", name)
		}
	}
}

func TestMatchFollowsNATS(t *testing.T) {
	t.Parallel()
	for pattern, subjects := range map[string]map[string]bool{
		"order.*": {"order.paid": true, "order": false, "order.line.added": false},
		"order.>": {"order.paid": true, "order.line.added": true, "order": false},
		"*.paid":  {"order.paid": true, "paid": false},
		">":       {"order": true, "order.paid": true},
		"order":   {"order": true, "orders": false},
	} {
		for subject, want := range subjects {
			if got := event.Match(pattern, subject); got != want {
				t.Errorf("Match(%s, %s) = %t, want %t", pattern, subject, got, want)
			}
		}
	}
}

func TestDeadLettersKeepTheirSubjectsTail(t *testing.T) {
	t.Parallel()
	if got, want := event.DLQSubject("enrich", sample().RawSubject()), "tercel.dlq.enrich.orders.north.order.paid"; got != want {
		t.Errorf("DLQSubject() = %s, want %s", got, want)
	}
}

// Promise 4: an unsigned id can't be used to claim another event's place.
func TestIdentityBindsWhatTheSignatureDoesNot(t *testing.T) {
	t.Parallel()
	a, b := []byte(`{"a":1}`), []byte(`{"a":2}`)
	repeat := event.Identity("id", false, slices.Clone(a))
	switch {
	case event.Identity("id", true, a) != "id":
		t.Error("a signed id must stay as it is")
	case event.Identity("id", false, a) == event.Identity("id", false, b):
		t.Error("two bodies share an unsigned id's identity")
	case event.Identity("id", false, a) != repeat:
		t.Error("the same delivery has two identities")
	case event.Identity("", false, a) == event.Identity("", false, b):
		t.Error("two bodies without an id share an identity")
	}
}

func TestMessageIDsAreApartAndBounded(t *testing.T) {
	t.Parallel()
	e := sample()
	ids := map[string]bool{}
	for _, change := range []func(*event.Event){
		func(*event.Event) {},
		func(e *event.Event) { e.Source = "other" },
		func(e *event.Event) { e.Account = "south" },
		func(e *event.Event) { e.ID = "evt_1 " }, // the server would trim the space
		func(e *event.Event) { e.ID = "evt_1\n" },
		func(e *event.Event) { e.ID = strings.Repeat("x", 5_000) },
		func(e *event.Event) { e.ID = strings.Repeat("x", 5_001) },
	} {
		c := e
		change(&c)
		id := c.MsgID()
		if ids[id] || len(id) > 300 || strings.ContainsAny(id, " \r\n") {
			t.Errorf("message id %q is taken, too long or unsafe", id)
		}
		ids[id] = true
	}
	if a, b := event.AgainID("x", event.Replay), event.AgainID("x", event.Replay); a == b || a == "x" {
		t.Errorf("AgainID() = %q and %q, want two fresh ids", a, b)
	}
	d := sample()
	listed := d.ListedMsgID()
	if d.ID = "other"; d.ListedMsgID() != listed || listed != "orders:north:listed:d-1" || ids[listed] {
		t.Errorf("ListedMsgID() = %q, want it made of the delivery id alone", listed)
	}
	once := event.AgainID("x", event.Replay)
	if twice := event.AgainID(once, event.Replay); len(twice) != len(once) || twice == once {
		t.Errorf("sent again as %q and then as %q, want a fresh id that is not longer", once, twice)
	}
}

// Promise 7 rests on this order.
func TestVersionsSortAsTheyAge(t *testing.T) {
	t.Parallel()
	for name, ordered := range map[string][]string{
		"numbers": {"0", "1", "2", "9", "9.5", "10", "10.25", "99", "1000", "1760000000", "1760000000123", "12345678901234567890123"},
		"times": {
			"2024-12-31T23:00:00-02:00", "2025-01-01T01:00:00.000000001Z", "2025-01-01T01:00:00.1Z", "2025-01-01T03:00:01+01:00",
		},
		"times with offsets of other forms": {
			"2024-12-31T20:30:00-0400", "2024-12-31 20:31:00.5-0400", "2025-01-01 00:32:00+00", "2025-01-01T02:33:00 +0200", "2025-01-01 00:34:00 Z",
		},
		"texts":             {"2024-01-01", "2024-01-02", "2025-01-01"},
		"times of no place": {"2024-12-31 23:00:00", "2025-01-01 00:00:00", "2025-01-01 00:00:00.5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var versions []event.Version
			for _, text := range ordered {
				v, err := event.ParseVersion(text)
				if err != nil {
					t.Fatal(err)
				}
				versions = append(versions, v)
			}
			shuffled := slices.Clone(versions)
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			slices.SortFunc(shuffled, event.Version.Compare)
			if !slices.Equal(shuffled, versions) {
				t.Errorf("sorted to %v, want %v", shuffled, versions)
			}
			for i := 1; i < len(versions); i++ {
				a, ordA := versions[i-1].Ordinal()
				b, ordB := versions[i].Ordinal()
				if ordA && ordB && a >= b || a == b {
					t.Errorf("ordinals of %s and %s are %d and %d", versions[i-1], versions[i], a, b)
				}
			}
		})
	}
}

func TestEqualVersionsAreOne(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"1", "1.0", "01", "1e0"}, {"1000", "1e3", "1000.00"}, {"2025-01-01T00:00:00Z", "2025-01-01T01:00:00+01:00", "2025-01-01T00:00:00.000Z", "2024-12-31T20:00:00-0400", "2025-01-01 01:00:00 +01"},
	} {
		first, err := event.ParseVersion(same[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range same[1:] {
			if v, err := event.ParseVersion(text); err != nil || v != first {
				t.Errorf("ParseVersion(%s) = %s, %v, want %s as for %s", text, v, err, first, same[0])
			}
		}
	}
	for _, bad := range []string{"", "-1", "-2.5", strings.Repeat("9", 200)} {
		if v, err := event.ParseVersion(bad); err == nil {
			t.Errorf("ParseVersion(%q) = %s, want an error", bad, v)
		}
	}
}

func TestBodySplicesWithoutTouching(t *testing.T) {
	t.Parallel()
	b := event.Body{
		Trigger: event.TriggerValue("application/json", []byte(" {\"n\": 9007199254740993} \n")),
		Record:  []byte(`{"a":1.10}`),
		Related: map[string]jsontext.Value{"z": nil, "a\"b": []byte(`[1]`)},
		Deleted: true,
	}
	want := `{"trigger":{"n": 9007199254740993},"record":{"a":1.10},"related":{"a\"b":[1],"z":null},"deleted":true}`
	got := string(b.Encode())
	if got != want {
		t.Errorf("Encode() = %s, want %s", got, want)
	}
	back, err := event.DecodeBody([]byte(got))
	if err != nil || string(back.Record) != `{"a":1.10}` || !back.Deleted || string(back.Related["z"]) != "null" {
		t.Errorf("DecodeBody() = %+v, %v", back, err)
	}
	b = event.Body{Record: []byte(`1`), Truncated: []string{"a", `b"`}, Stale: true}
	if got := string(b.Encode()); got != `{"trigger":null,"record":1,"truncated":["a","b\""],"stale":true}` {
		t.Errorf("Encode() = %s", got)
	}
	if got := string((event.Body{}).Encode()); got != `{"trigger":null,"record":null}` {
		t.Errorf("empty body = %s", got)
	}
}

func TestTriggerThatIsNoJSONTravelsAsBase64(t *testing.T) {
	t.Parallel()
	for contentType, raw := range map[string]string{
		"text/plain": `{"a":1}`, "application/json": `{"a":1,"a":2}`, "application/x-www-form-urlencoded": "a=1", "": "\xff",
	} {
		if v := event.TriggerValue(contentType, []byte(raw)); !v.IsValid() || v.Kind() != '"' {
			t.Errorf("TriggerValue(%q) = %s, want a JSON string", contentType, v)
		}
	}
	if !event.IsJSON("application/vnd.docker.distribution.events.v1+json") || event.IsJSON("text/html") {
		t.Error("IsJSON() tells the wrong media types")
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "%", "_", "a.b", "*>", "ü", "%~", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token := event.Escape(s)
		if token == "" || len(token) > 3*len(s)+1 || strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Errorf("Escape(%q) = %q is no subject token", s, token)
		}
		if back, err := event.Unescape(token); err != nil || back != s {
			t.Errorf("Unescape(%q) = %q, %v, want %q", token, back, err, s)
		}
		tokens := event.TypeTokens(s)
		if strings.Contains(tokens, "..") || strings.HasPrefix(tokens, ".") || strings.HasSuffix(tokens, ".") || len(tokens) > 600 {
			t.Errorf("TypeTokens(%q) = %q is no subject", s, tokens)
		}
		if back, err := event.TypeFromTokens(tokens); err == nil && back != s {
			t.Errorf("TypeFromTokens(%q) = %q, want %q", tokens, back, s)
		}
		_, _ = event.Unescape(s)
		_, _ = event.FromHeader(nats.Header{event.HeaderID: {s}, event.HeaderSource: {s}, event.HeaderTime: {s}, event.HeaderTriggerSequence: {s}})
	})
}

// Promise 7 for what has no version of its own: what was seen later is newer,
// and a state is recognised whenever it is seen.
func TestSeenVersionsGoByWhenTheyWereSeen(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := event.SeenVersion(noon, []byte("a"))
	b := event.SeenVersion(noon.Add(time.Nanosecond), []byte("b"))
	again := event.SeenVersion(noon.Add(time.Hour).In(time.FixedZone("", -5*3600)), []byte("a"))
	if a.Compare(b) >= 0 || b.Compare(again) >= 0 {
		t.Errorf("versions %s, %s and %s don't sort as they were seen", a, b, again)
	}
	if a.Mark() != again.Mark() || a.Mark() == b.Mark() {
		t.Errorf("marks %s, %s and %s, want the first and the last to be one", a.Mark(), b.Mark(), again.Mark())
	}
	first, ordered := a.Ordinal()
	second, _ := again.Ordinal()
	other, _ := b.Ordinal()
	if ordered || first != second || first == other {
		t.Errorf("ordinals %d, %d and %d (ordered %t), want those of one state alike and no order", first, second, other, ordered)
	}
	if v := event.TimeVersion(noon); v.Mark() != string(v) {
		t.Errorf("Mark() of %s = %s, want itself", v, v.Mark())
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"1", "1e9", "1e999999999", "2025-01-01T00:00:00Z", "0x10", "1.", ".5", "9999-12-31T23:59:59Z", "2025-01-01 00:00:00 -0400"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := event.ParseVersion(s)
		if err != nil {
			return
		}
		again, err := event.ParseVersion(s)
		if err != nil || again != v || v == "" || len(v) > 400 {
			t.Errorf("ParseVersion(%q) = %q, then %q, %v", s, v, again, err)
		}
		v.Ordinal()
	})
}

func ExampleEvent_RawSubject() {
	e := event.Event{Source: "stripe", Account: "acct_1", Type: "invoice.paid", ID: "evt_1"}
	fmt.Println(e.RawSubject(), e.MsgID())
	// Output: tercel.raw.stripe.acct_1.invoice.paid stripe:acct_1:evt_1
}

// What is published is what the contract says.
func TestEnrichedEventsFollowTheContract(t *testing.T) {
	t.Parallel()
	e := sample()
	body := event.Body{
		Trigger: []byte(`{"id":"evt_1"}`), Record: []byte(`{"id":"7","total":1.5}`), Related: map[string]jsontext.Value{"customer": nil},
		Truncated: []string{"lines"}, Stale: true,
	}
	p, err := e.Proto(body.Encode())
	if err != nil {
		t.Fatal(err)
	}
	a := p.GetAttributes()
	if a.GetId() != e.ID || a.GetSubject() != e.RecordID || a.GetOrigin().String() != "ORIGIN_WEBHOOK" ||
		!a.GetObservedAt().AsTime().Equal(e.ObservedAt) || a.GetVersion() != string(e.Version) {
		t.Errorf("attributes = %v, want those of %+v", a, e)
	}
	if got := p.GetBody().GetRecord().GetStructValue().GetFields()["total"].GetNumberValue(); got != 1.5 {
		t.Errorf("record.total = %v, want 1.5", got)
	}
	if b := p.GetBody(); len(b.GetTruncated()) != 1 || b.GetTruncated()[0] != "lines" || !b.GetStale() {
		t.Errorf("truncated %v, stale %t, want what the body says", b.GetTruncated(), b.GetStale())
	}
	if _, err := e.Proto([]byte(`[]`)); err == nil {
		t.Error("a body that is no event was taken")
	}
}
