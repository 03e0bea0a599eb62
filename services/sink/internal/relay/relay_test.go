package relay_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/chaos/link"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/relay"
)

func item(n, size int) delivery.Item {
	at := time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)
	return delivery.Item{
		Event: event.Event{
			ID: fmt.Sprint("evt-", n), Source: "orders", Account: "north sea", Type: "order.paid", Origin: event.Webhook, ReceivedAt: at,
		},
		Body: fmt.Appendf(nil, `{"trigger":%q}`, strings.Repeat("x", size)), Sequence: uint64(n),
		Header: nats.Header{
			nats.MsgIdHdr: {fmt.Sprint("id-", n)}, event.HeaderTraceParent: {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			"Nats-Rollup": {"all"},
		},
	}
}

// server has a stream COPY with the subjects copy.>.
func server(t *testing.T) (*natstest.Server, jetstream.Stream) {
	t.Helper()
	s := natstest.Start(t, false)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "COPY", Subjects: []string{"copy.>"}, AllowRollup: true, MaxMsgSize: 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, stream
}

func open(t *testing.T, cfg pipeline.Relay) (*relay.Stream, error) {
	t.Helper()
	s, err := relay.Open(t.Context(), relay.Config{Relay: cfg, Name: "copy", InHand: 3000}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func TestMessagesAreThoseOfTheirStream(t *testing.T) {
	t.Parallel()
	srv, stream := server(t)
	w, err := open(t, pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	results := w.Write(t.Context(), []delivery.Item{item(1, 1), item(2, 1), item(1, 1)})
	if results[0].Err != nil || results[1].Err != nil || results[2].Err != nil || results[0].Duplicate || !results[2].Duplicate {
		t.Fatalf("Write() = %+v", results)
	}
	m, err := stream.GetMsg(t.Context(), 1) // it would be gone if the order to roll up had been copied
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "copy.orders.north%20sea.order.paid" || string(m.Data) != string(item(1, 1).Body) {
		t.Errorf("%s: %s", m.Subject, m.Data)
	}
	for name, want := range map[string]string{
		"ce-id": "evt-1", nats.MsgIdHdr: "copy.copy.id-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Nats-Rollup": "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// What one destination has published to a stream is no repeat of another's, which the
// stream, that knows message ids alone, would drop.
func TestTwoDestinationsMayHaveOneStream(t *testing.T) {
	t.Parallel()
	srv, stream := server(t)
	for n, cfg := range []relay.Config{
		{Name: "a", Relay: pipeline.Relay{Prefix: "copy.x"}},
		{Name: "a", Relay: pipeline.Relay{Prefix: "copy.y"}}, // as another installation's
		{Name: "b", Relay: pipeline.Relay{Prefix: "copy.x"}}, // with another map
	} {
		cfg.InHand, cfg.URL = 10, srv.URL()
		w, err := relay.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		if res := w.Write(t.Context(), []delivery.Item{item(1, 1)})[0]; res.Err != nil || res.Duplicate {
			t.Errorf("%s to %s: %+v", cfg.Name, cfg.Prefix, res)
		}
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := info.State.LastSeq; got != uint64(n+1) {
			t.Errorf("%s to %s: %d messages, want %d", cfg.Name, cfg.Prefix, got, n+1)
		}
	}
}

// A server that takes its time to answer for a whole batch is not out.
func TestAcknowledgementsMayBeLate(t *testing.T) {
	t.Parallel()
	srv, stream := server(t)
	l, err := link.Listen(strings.TrimPrefix(srv.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	w, err := open(t, pipeline.Relay{NATS: pipeline.NATS{URL: "nats://" + l.Addr()}, Prefix: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	l.Delay(500 * time.Millisecond)
	items := make([]delivery.Item, 3000)
	for n := range items {
		items[n] = item(n, 1)
	}
	for n, res := range w.Write(t.Context(), items) {
		if res.Err != nil {
			t.Fatalf("item %d: %v", n, res.Err)
		}
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 3000 {
		t.Errorf("%+v, %v; want 3000 messages", info, err)
	}
}

// An event that is too big for the stream is refused alone and for good.
func TestPromise3TooBigAnEventFailsAlone(t *testing.T) {
	t.Parallel()
	srv, _ := server(t)
	w, err := open(t, pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "copy", Stream: "COPY"})
	if err != nil {
		t.Fatal(err)
	}
	results := w.Write(t.Context(), []delivery.Item{item(1, 1), item(2, 5000), item(3, 2<<20), item(4, 1)})
	if results[0].Err != nil || results[3].Err != nil || !fault.IsPermanent(results[1].Err) || !fault.IsPermanent(results[2].Err) {
		t.Errorf("Write() = %+v, want the second and the third to fail for good", results)
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	srv, _ := server(t)
	js, err := jetstream.New(srv.Connect())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TERCEL_MINE", Subjects: []string{"mine.>"}}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cfg  pipeline.Relay
		want string
	}{
		"nobody there":       {pipeline.Relay{NATS: pipeline.NATS{URL: "nats://127.0.0.1:1"}, Prefix: "copy"}, "connect to nats"},
		"no stream":          {pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "nowhere"}, "stream not found"},
		"another stream":     {pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "copy", Stream: "OTHER"}, "want OTHER"},
		"a stream of Tercel": {pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "mine"}, "would come back"},
		"a password in what is no address": {
			pipeline.Relay{NATS: pipeline.NATS{URL: "nats://user:pa%zzss@127.0.0.1:1"}, Prefix: "copy"}, "the address is no URL",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "pa%zz") {
				t.Errorf("Open() = %v, want %q", err, tt.want)
			}
		})
	}
}

// Another stream that has taken over the subjects gets nothing.
func TestEventsGoToTheirStreamAlone(t *testing.T) {
	t.Parallel()
	srv, _ := server(t)
	w, err := open(t, pipeline.Relay{NATS: pipeline.NATS{URL: srv.URL()}, Prefix: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(srv.Connect())
	if err == nil {
		err = js.DeleteStream(t.Context(), "COPY")
	}
	if err == nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"copy.>"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if res := w.Write(t.Context(), []delivery.Item{item(1, 1)})[0]; res.Err == nil || fault.IsPermanent(res.Err) {
		t.Errorf("Write() = %v, want a transient error", res.Err)
	}
}
