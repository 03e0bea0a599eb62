package redact_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
)

func rules(t testing.TB, paths ...string) redact.Rules {
	t.Helper()
	r, err := redact.Parse(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	raw      = "tercel.raw.orders._.order.paid"
	enriched = "tercel.enriched.orders._.order.paid"
	requests = "tercel.requests.orders._"
)

func TestValuesAreNotShown(t *testing.T) {
	t.Parallel()
	carries := event.Event{Resource: "order", RecordID: "7"}
	tests := map[string]struct {
		paths         []string
		subject       string
		event         event.Event
		payload, want string
	}{
		"in a trigger": {
			[]string{"body.card.number", "record.email"}, raw, event.Event{}, `{"card":{"number":"4242"},"email":"a"}`, `{"card":{"number":"[redacted]"},"email":"a"}`,
		},
		"in a trigger that carries its record": {
			[]string{"body.card.number", "record.email"}, raw, carries, `{"card":{"number":"4242"},"email":"a"}`, `{"card":{"number":"4242"},"email":"[redacted]"}`,
		},
		"in an event": {
			[]string{"body.a", "record.b", "related.c.d"},
			enriched, carries,
			`{"trigger":{"a":1,"b":2},"record":{"a":3,"b":4},"related":{"c":{"d":5,"e":6}}}`,
			`{"trigger":{"a":"[redacted]","b":2},"record":{"a":3,"b":"[redacted]"},"related":{"c":{"d":"[redacted]","e":6}}}`,
		},
		"in an event whose trigger isn't JSON": {
			[]string{"body.a"}, enriched, event.Event{}, `{"trigger":"YT0x","record":null}`, `{"trigger":"[redacted]","record":null}`,
		},
		"in a trigger that isn't JSON":  {[]string{"body.a"}, raw, event.Event{}, `a=1`, `"[redacted]"`},
		"in a trigger that is cut":      {[]string{"body.a"}, raw, event.Event{}, `{"a":1`, `"[redacted]"`},
		"in an event that isn't one":    {[]string{"body.a"}, enriched, event.Event{}, `x`, `{"trigger":"[redacted]","record":"[redacted]"}`},
		"in a request of several":       {[]string{"body.a"}, requests, event.Event{}, `[{"a":1}]`, `"[redacted]"`},
		"what is not there":             {[]string{"body.a"}, raw, event.Event{}, `{"a":null,"b":1}`, `{"a":null,"b":1}`},
		"without a rule, to the byte":   {nil, raw, event.Event{}, ` {"a" :1}`, ` {"a" :1}`},
		"the whole record":              {[]string{"record"}, enriched, carries, `{"trigger":1,"record":{"a":1}}`, `{"trigger":1,"record":"[redacted]"}`},
		"no payload":                    {[]string{"body.a"}, raw, event.Event{}, ``, ``},
		"a name that is there twice":    {[]string{"body.a"}, raw, event.Event{}, `{"a":"x","a":"y"}`, `{"a":"[redacted]","a":"[redacted]"}`},
		"a rule of another root's name": {[]string{"header.X"}, raw, event.Event{}, `{"X":1}`, `{"X":1}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rules(t, tt.paths...).Show(tt.subject, tt.event, []byte(tt.payload)); string(got.Payload) != tt.want {
				t.Errorf("shown is %s, want %s", got.Payload, tt.want)
			}
		})
	}
}

// What a payload had comes back in texts beside it: what a destination answered,
// what a map makes of it.
func TestValuesAreNotShownBesideThePayload(t *testing.T) {
	t.Parallel()
	s := rules(t, "body.card", "body.code", "body.n").Show(raw, event.Event{}, []byte(`{"card":{"number":"42424242","owner":"Ada \"B\" C"},"code":"x","n":12345678}`))
	if got, want := s.Text(`422: {"card":"42424242", "of": "Ada \"B\" C", n: 12345678, x}, number`), `422: {"card":"[redacted]", "of": "[redacted]", n: [redacted], x}, number`; got != want {
		t.Errorf("text %s, want %s", got, want)
	}
	if got, want := string(s.JSON([]byte(`{"to":"Ada \"B\" C","no":["no. 42424242"],"n":12345678,"42424242":true}`))),
		`{"to":"[redacted]","no":["no. [redacted]"],"n":"[redacted]","42424242":true}`; got != want {
		t.Errorf("JSON %s, want %s", got, want)
	}
	if got := string(s.JSON([]byte(`{"cut":`))); got != `"[redacted]"` {
		t.Errorf("JSON that is cut is shown as %s", got)
	}
	other := rules(t, "record.email").Show(enriched, event.Event{}, []byte(`{"trigger":null,"record":{"email":"ada@example.com"}}`))
	if got := s.With(other).Text("42424242 of ada@example.com"); got != "[redacted] of [redacted]" {
		t.Errorf("text of two payloads: %s", got)
	}
	// The longer value goes first, or its rest would be left.
	s = rules(t, "body.a", "body.b").Show(raw, event.Event{}, []byte(`{"a":"secret","b":"secret-longer"}`))
	if got := s.Text("secret-longer"); got != redact.Mark {
		t.Errorf("text %s, want nothing left of the longer value", got)
	}
}

func TestRulesAreReadInBothForms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		yaml   string
		stored bool
		fault  string
	}{
		"a list":               {yaml: `redact: [body.a, "record.b[].c", header.X-Id]`},
		"a mapping":            {yaml: `redact: {paths: [body.a], stored: true}`, stored: true},
		"another root":         {yaml: `redact: [a.b]`, fault: "begins with body"},
		"a template":           {yaml: `redact: ["{body.a}"]`, fault: "begins with body"},
		"a path that is none":  {yaml: `redact: [body.a..b]`, fault: "redact"},
		"a header without one": {yaml: `redact: [header]`, fault: "header.NAME"},
		"stored nothing":       {yaml: `redact: {stored: true}`, fault: "redact.paths"},
		"an unknown key":       {yaml: `redact: {path: [body.a]}`, fault: "redact.path"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f struct {
				Redact redact.Rules `yaml:"redact"`
			}
			err := config.Decode("tercel.yaml", []byte(tt.yaml), &f)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("Decode() = %v, want a fault that says %s", err, tt.fault)
				}
				return
			}
			if err != nil || f.Redact.IsZero() || f.Redact.Stored != tt.stored {
				t.Errorf("Decode() = %v, %+v", err, f.Redact)
			}
			if got := f.Redact.Show(raw, event.Event{}, []byte(`{"a":1}`)); string(got.Payload) != `{"a":"[redacted]"}` {
				t.Errorf("shown is %s", got.Payload)
			}
		})
	}
}

// Whoever looks into a pipeline without its file has its rules all the same, and
// shows nothing of a source whose rules it doesn't know.
func TestRulesTravelWithThePipeline(t *testing.T) {
	t.Parallel()
	var infos []*jetstream.ConsumerInfo
	for source, metadata := range map[string]map[string]string{
		"orders": rules(t, "body.a", "record.b[].c").Metadata(), "open": redact.Rules{}.Metadata(),
		"before": nil, "later": {topology.MetadataRedact: "frame.a"},
	} {
		cfg := topology.EnrichConsumer(source, topology.Delivery{})
		cfg.Metadata = metadata
		infos = append(infos, &jetstream.ConsumerInfo{Name: cfg.Durable, Config: cfg})
	}
	set := redact.FromConsumers(append(infos, &jetstream.ConsumerInfo{Name: "another team's"}))
	const open, shown, hidden = `{"a":1}`, `{"a":"[redacted]"}`, `"[redacted]"`
	for source, want := range map[string]string{"orders": shown, "open": open, "before": open, "later": hidden, "unknown": hidden} {
		if got := set.Of(source).Show(raw, event.Event{}, []byte(open)); string(got.Payload) != want {
			t.Errorf("of %s is shown %s, want %s", source, got.Payload, want)
		} else if got.Whole() != (want == hidden) || want == hidden && (got.Text("beside it") != redact.Mark || got.Own("beside it") != "beside it") {
			t.Errorf("of %s a text is shown as %q beside %s", source, got.Text("beside it"), want)
		}
	}
}

func TestWhatIsStoredIsReplacedOnlyIfAsked(t *testing.T) {
	t.Parallel()
	r := rules(t, "body.a", "record.b")
	if got, replaced := r.Store("body", []byte(`{"a":1}`)); replaced || string(got) != `{"a":1}` {
		t.Errorf("Store() = %s, %t; want the bytes as they were", got, replaced)
	}
	r.Stored = true
	for doc, want := range map[string]string{`{"a":1,"b":2}`: `{"a":"[redacted]","b":2}`, `a=1`: `"[redacted]"`, `{"b":1}`: `{"b":1}`} {
		if got, replaced := r.Store("body", []byte(doc)); string(got) != want || replaced != (doc != want) {
			t.Errorf("Store(%s) = %s, %t; want %s", doc, got, replaced, want)
		}
	}
	if got := r.StoreEnriched([]byte(`{"trigger":{"a":1},"record":{"b":2,"c":3}}`)); string(got) != `{"trigger":{"a":"[redacted]"},"record":{"b":"[redacted]","c":3}}` {
		t.Errorf("StoreEnriched() = %s", got)
	}
	for at, want := range map[string]bool{"a": true, "a.b": true, "b": false, "": false} {
		p, err := field.ParsePath(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Hides("body", p); got != want || r.Hides("related", p) {
			t.Errorf("Hides(body.%s) = %t, want %t", at, got, want)
		}
	}
	if got, replaced := r.Store("related", []byte(`{"a":1}`)); replaced {
		t.Errorf("Store() of what no rule is of = %s", got)
	}
}

func TestHeadersAreNamedInLowerCase(t *testing.T) {
	t.Parallel()
	if got := rules(t, "body.a", "header.X-Customer").Headers(); fmt.Sprint(got) != "[x-customer]" {
		t.Errorf("Headers() = %v", got)
	}
}

func Example() {
	rules, err := redact.Parse("body.card.number")
	if err != nil {
		fmt.Println(err)
		return
	}
	shown := rules.Show("tercel.raw.shop._.paid", event.Event{}, []byte(`{"card":{"number":"4242424242424242"},"amount":5}`))
	fmt.Println(string(shown.Payload))
	fmt.Println(shown.Text("422 card 4242424242424242 declined"))
	// Output:
	// {"card":{"number":"[redacted]"},"amount":5}
	// 422 card [redacted] declined
}
