package run_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// pages is an API that lists events without a network: what is measured is the
// comparison.
type pages struct {
	at     time.Time
	events int
	size   int
}

func (p pages) Do(_ context.Context, r sourceapi.Request) (sourceapi.Answer, error) {
	from := 0
	if after := r.Query.Get("starting_after"); after != "" {
		from, _ = strconv.Atoi(after[len("evt_"):])
		from++
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"object":"list","has_more":%t,"data":[`, from+p.size < p.events)
	for i := from; i < min(from+p.size, p.events); i++ {
		if i > from {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"evt_%d","object":"event","created":%d,"data":{"object":{"id":"in_%d","object":"invoice"}},"type":"invoice.paid"}`, i, p.at.Unix(), i)
	}
	b.WriteString("]}")
	return sourceapi.Answer{Status: http.StatusOK, Header: http.Header{}, Body: b.Bytes(), RequestedAt: p.at}, nil
}

// BenchmarkEvents compares 200,000 listed events with as many stored triggers.
func BenchmarkEvents(b *testing.B) {
	const n = 200_000
	js := natstest.Run(b)
	cfg := topology.DefaultConfig()
	if err := topology.Ensure(b.Context(), js, cfg); err != nil {
		b.Fatal(err)
	}
	store(b, js, n)
	file, err := pipeline.Decode("tercel.yaml", []byte("sources:\n  pay: {preset: stripe, secrets: [env:S], events: {start: 24h}}\n"),
		config.WithLookupEnv(func(string) (string, bool) { return "whsec_a secret, long enough", true }))
	if err != nil {
		b.Fatal(err)
	}
	src := file.Sources["pay"]
	met, err := run.NewMetrics(time.Now)
	if err != nil {
		b.Fatal(err)
	}
	defer met.Close()
	b.ResetTimer()
	for range b.N {
		r, err := run.New(run.Config{
			Key: cursor.Key{Source: "pay", Account: "_", Resource: provider.EventsResource}, Source: &src, LeaseTTL: time.Minute,
		}, run.Deps{
			JetStream: js, API: pages{time.Now().Add(-time.Hour), n, 100}, Publisher: (*publish.Publisher)(nil), Metrics: met,
			Repairs: rate.NewLimiter(rate.Inf, 1), Now: time.Now,
		})
		if err != nil {
			b.Fatal(err)
		}
		begun, err := r.Begin(b.Context(), dryRun)
		if err != nil {
			b.Fatal(err)
		}
		if err := begun.Do(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// store stores n triggers of events.
func store(b *testing.B, js jetstream.JetStream, n int) {
	b.Helper()
	for from := 0; from < n; from += 1000 {
		var batch []*nats.Msg
		for i := from; i < from+1000; i++ {
			id := fmt.Sprint("evt_", i)
			e := event.Event{ID: id, DeliveryID: id, Source: "pay", Account: "_", Type: "invoice.paid", Origin: event.Webhook, ContentType: "application/json"}
			m := nats.NewMsg(e.RawSubject())
			m.Header, m.Data = e.Header(), []byte(`{"id":"evt"}`)
			batch = append(batch, m)
		}
		if _, err := jetstreamext.PublishMsgBatch(b.Context(), js, batch); err != nil {
			b.Fatal(err)
		}
	}
}
