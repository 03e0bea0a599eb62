package refusal_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/pkg/topology"
)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func record(source, id string) refusal.Record {
	return refusal.Record{
		At: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Source: source, RequestID: id, ClaimedID: "evt *>" + id, Status: 401,
		Outcome: "refused_signature", Check: "signature", Reason: "mismatch", Method: "POST", Path: "/v1/" + source,
		Body: refusal.Body{Size: 7, Shape: jsontext.Value(`{"a":"number"}`)},
	}
}

// kept lists what is stored, the oldest first.
func kept(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var got []string
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRefused}) {
		if err != nil {
			t.Fatal(err)
		}
		if r, err := refusal.Decode(m.Data); err == nil {
			got = append(got, fmt.Sprint(m.Sequence, " ", r.Source, " ", r.RequestID))
		}
	}
	return got
}

func TestWhatIsKeptIsFound(t *testing.T) {
	t.Parallel()
	js := setup(t)
	log := refusal.NewLog(js, slog.New(slog.DiscardHandler))
	for i, source := range []string{"orders", "shop", "orders"} {
		log.Keep(record(source, fmt.Sprint("r", i)))
	}
	log.Close()
	log.Close()                     // a second time is as well
	log.Keep(record("orders", "x")) // and what comes later is left out
	if _, err := js.Publish(t.Context(), "tercel.refused.orders", []byte("no refusal")); err != nil {
		t.Fatal(err)
	}
	if got, want := kept(t, js), []string{"1 orders r0", "2 shop r1", "3 orders r2"}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	got, err := refusal.Get(t.Context(), js, 2)
	want := record("shop", "r1")
	if err != nil || got.Sequence != 2 || got.ClaimedID != want.ClaimedID || string(got.Body.Shape) != string(want.Body.Shape) || !got.At.Equal(want.At) {
		t.Errorf("Get() = %+v, %v; want %+v", got, err, want)
	}
	for _, seq := range []uint64{0, 4, 99} {
		if _, err := refusal.Get(t.Context(), js, seq); !errors.Is(err, refusal.ErrNotFound) {
			t.Errorf("Get(%d) = %v, want ErrNotFound", seq, err)
		}
	}
}

// Promise 10: of one source the last ones stay, and another's aren't pushed out.
func TestPromise10AFloodOfOneSourceLeavesTheOthers(t *testing.T) {
	t.Parallel()
	js := setup(t)
	stream, err := js.Stream(t.Context(), topology.StreamRefused)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.MaxMsgsPerSubject <= 0 || cfg.MaxBytes <= 0 || cfg.MaxAge <= 0 || cfg.Discard != jetstream.DiscardOld {
		t.Fatalf("the stream is not bounded: %+v", cfg)
	}
	cfg.MaxMsgsPerSubject = 5
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	log := refusal.NewLog(js, slog.New(slog.DiscardHandler))
	log.Keep(record("shop", "kept"))
	for i := range 40 {
		log.Keep(record("orders", fmt.Sprint(i)))
	}
	log.Close()
	got := kept(t, js)
	if len(got) != 6 || got[0] != "1 shop kept" || !strings.HasSuffix(got[5], " 39") || log.Dropped() != 0 {
		t.Errorf("kept %v, dropped %d; want the other source's, and the last five", got, log.Dropped())
	}
}

// Promise 10: a server that takes nothing holds nobody up, and what was left out
// is counted.
func TestPromise10NobodyWaitsForWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, false)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	log := refusal.NewLog(js, slog.New(slog.DiscardHandler))
	const n = 20_000
	began := time.Now()
	for range n {
		log.Keep(record("orders", "r"))
	}
	took := time.Since(began)
	log.Close()
	if got := log.Dropped(); got != n {
		t.Errorf("%d counted as dropped, want %d", got, n)
	}
	// Each that waited would have taken seconds.
	if took > 30*time.Second {
		t.Errorf("%d calls took %s", n, took)
	}
}

func TestShapesHaveNoValues(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	many := `{"k0":1`
	for i := 1; i < 300; i++ {
		many += fmt.Sprintf(`,"k%d":1`, i)
	}
	tests := map[string]struct{ body, want string }{
		"values of each kind": {
			`{"s":"x","n":1,"t":true,"f":false,"z":null,"o":{"a":[1,2]}}`,
			`{"s":"string","n":"number","t":"boolean","f":"boolean","z":"null","o":{"a":["number"]}}`,
		},
		"the first of an array": {`[{"a":1},{"b":2}]`, `[{"a":"number"}]`},
		"an empty array":        {`[]`, `[]`},
		"a scalar":              {`"secret"`, `"string"`},
		"a deep one":            {deep, `{"a":{"a":{"a":{"a":{"a":{"a":"object"}}}}}}`},
		"a long name":           {`{"` + strings.Repeat("n", 80) + `":1}`, `{"` + strings.Repeat("n", 64) + `…":"number"}`},
		"no JSON":               {`a=1&b=2`, ``},
		"a cut one":             {`{"a":"secret`, ``},
		"nothing":               {``, ``},
		"a huge one":            {`"` + strings.Repeat("x", 1<<20) + `"`, ``},
	}
	for name, tt := range tests {
		if got := refusal.ShapeOf([]byte(tt.body)); string(got) != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	got := refusal.ShapeOf([]byte(many + "}"))
	if n := strings.Count(string(got), `"number"`); n != 100 || !got.IsValid() || !strings.HasSuffix(string(got), `"…":"number"}`) {
		t.Errorf("of 300 names %d are there: %s", n, got)
	}
}

// A shape is JSON, and small, whatever the body.
func FuzzShapeOf(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"c"}],"a":1}`))
	f.Add([]byte("{\"\xff\":1}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := refusal.ShapeOf(body)
		if got != nil && !got.IsValid(jsontext.AllowDuplicateNames(true)) || len(got) > 100*(6*64+32)+64 {
			t.Fatalf("ShapeOf(%q) = %q", body, got)
		}
	})
}

func ExampleShapeOf() {
	fmt.Println(refusal.ShapeOf([]byte(`{"id":"evt_1","card":{"number":"4242424242424242"},"lines":[{"price":5}]}`)))
	// Output: {"id":"string","card":{"number":"string"},"lines":[{"price":"number"}]}
}
