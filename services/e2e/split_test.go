package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/console"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/ingress"
)

const splitPipeline = `
sources:
  shop:
    verify: {scheme: none, insecure: true}
    event: {split: body.events, id: item.id, type: item.kind}
    api: {base: "%s", allow_private: true}
    resources: {thing: {triggers: [thing.*], id: body.thing, get: "/things/{id}", version: record.version}}
`

// A request with three events becomes three: each is enriched by what its own
// body names, one ends as a dead letter and is replayed, and all can be traced.
// The request that is kept beside them is nobody's work.
func TestEventsOfOneRequestGoTheirOwnWays(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/2") && !healed.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"id":%q,"version":1}`, r.URL.Path[len("/things/"):])
	}))
	defer api.Close()
	file, err := pipeline.Decode("tercel.yaml", fmt.Appendf(nil, splitPipeline, api.URL), config.WithLookupEnv(func(string) (string, bool) { return "", false }))
	if err != nil {
		t.Fatal(err)
	}
	server := natstest.Start(t, true)
	nc := server.Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, file.Streams); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	in, err := ingress.New(ingress.Config{Ingress: file.Ingress, Sources: file.Sources, Streams: file.Streams}, ingress.Deps{Conn: nc, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	work := consume.Config{Workers: 2, Batch: 1, AckWait: 30 * time.Second, Timeout: 10 * time.Second, MaxAttempts: 2, RetryMin: 20 * time.Millisecond, RetryMax: 50 * time.Millisecond}
	en, err := enricher.New(enricher.Config{Config: work, Sources: file.Sources, Streams: file.Streams}, enricher.Deps{Conn: nc, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- en.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()

	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/v1/shop", strings.NewReader(`{"events":[`+
		`{"id":"a","kind":"thing.made","thing":1},{"id":"b","kind":"thing.made","thing":2},{"id":"c","kind":"other"}]}`))
	r.Header.Set("Content-Type", "application/json")
	if in.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Fatalf("answered %d: %s", w.Code, w.Body)
	}
	eventually(t, time.Minute, "two events and a dead letter", func() error {
		return errors.Join(hasEvents(t.Context(), js, "a=1 1/3", "c= 3/3"), hasDead(t.Context(), js, 1))
	})
	healed.Store(true)
	for l, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
		if err != nil || !strings.HasPrefix(l.Event.ID, "b~") || l.Event.Part != "2/3" {
			t.Fatalf("dead letter of %+v, %v", l.Event, err)
		}
		if _, err := deadletter.Replay(t.Context(), js, l.Sequence, deadletter.ReplayOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, "the replayed event", func() error { return hasEvents(t.Context(), js, "a=1 1/3", "b=2 2/3", "c= 3/3") })
	cons, err := js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("shop"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "nothing is left to do", func() error {
		info, err := cons.Info(t.Context())
		if err == nil && (info.NumPending > 0 || info.NumAckPending > 0) {
			err = fmt.Errorf("%d pending, %d in work", info.NumPending, info.NumAckPending)
		}
		return err
	})
	admin := startConsole(t, file, nc)
	eventually(t, time.Minute, "the event is told with its part and its replay", func() error {
		out, err := exec.Command(program(t, "tercel"), "event", "trace", "b", "--api", admin).CombinedOutput()
		if err == nil && (!bytes.Contains(out, []byte("part 2/3 of request:sha256:")) || !bytes.Contains(out, []byte("origin replay"))) {
			err = errors.New("it lacks something")
		}
		if err != nil {
			err = fmt.Errorf("%w:\n%s", err, out)
		}
		return err
	})
}

// startConsole runs a console that lets in who is on the machine, and returns its
// address.
func startConsole(t *testing.T, file *pipeline.File, nc *nats.Conn) string {
	t.Helper()
	file.Console.Listen = "127.0.0.1:0"
	c, err := console.New(console.Config{
		Console: file.Console, Sources: file.Sources, Destinations: file.Destinations, Redact: file.Redactions(), Open: true,
	}, console.Deps{Conn: nc, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the console ended with %v", err)
		}
	})
	select {
	case <-c.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the console did not start: %v", err)
	}
	return c.URL()
}

// hasEvents reports what of TERCEL_ENRICHED isn't as wanted: the id without its
// hash, the record's id and the part of each event, in any order.
func hasEvents(ctx context.Context, js jetstream.JetStream, want ...string) error {
	var got []string
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{Stream: topology.StreamEnriched}) {
		if err != nil {
			return err
		}
		e, err := event.FromHeader(m.Header)
		if err != nil {
			return err
		}
		id, _, _ := strings.Cut(e.ID, "~")
		if body, err := event.DecodeBody(m.Data); err != nil || !bytes.Contains(body.Trigger, []byte(`"id":"`+id+`"`)) || bytes.Contains(body.Trigger, []byte("events")) {
			return fmt.Errorf("the trigger of %s is %s, %v", id, body.Trigger, err)
		}
		got = append(got, id+"="+e.RecordID+" "+e.Part)
	}
	for _, w := range want {
		if !strings.Contains("\n"+strings.Join(got, "\n")+"\n", "\n"+w+"\n") {
			return fmt.Errorf("got %q, want %q", got, want)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// hasDead reports whether there aren't n dead letters.
func hasDead(ctx context.Context, js jetstream.JetStream, n int) error {
	dead := 0
	for _, err := range deadletter.List(ctx, js, deadletter.Filter{}) {
		if err != nil {
			return err
		}
		dead++
	}
	if dead != n {
		return fmt.Errorf("%d dead letters, want %d", dead, n)
	}
	return nil
}
