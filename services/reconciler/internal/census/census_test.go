package census_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/census"
)

// replica is one of those that could tell, with metrics of its own as a process
// has them.
type replica struct {
	t      *testing.T
	reader *metric.ManualReader
	stop   context.CancelFunc
	ended  chan struct{}
}

// start starts one. Metrics are the process's, so no other may be started at the
// same time.
func start(t *testing.T, js jetstream.JetStream, streams topology.Config) *replica {
	t.Helper()
	r := &replica{t: t, reader: metric.NewManualReader(), ended: make(chan struct{})}
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(r.reader)))
	c, err := census.New(census.Config{Every: 50 * time.Millisecond, LeaseTTL: 5 * time.Second, Streams: streams},
		census.Deps{JetStream: js, Log: slog.New(slog.DiscardHandler)})
	otel.SetMeterProvider(before)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop = stop
	go func() {
		defer close(r.ended)
		defer c.Close()
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()
	t.Cleanup(r.end)
	return r
}

func (r *replica) end() { r.stop(); <-r.ended }

// told are the figures, by name and labels.
func (r *replica) told() map[string]float64 {
	r.t.Helper()
	var got metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &got); err != nil {
		r.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			if g, ok := m.Data.(metricdata.Gauge[float64]); ok {
				for _, p := range g.DataPoints {
					all[strings.TrimSpace(m.Name+" "+p.Attributes.Encoded(attribute.DefaultEncoder()))] = p.Value
				}
			}
		}
	}
	return all
}

// until waits until the replica tells these figures.
func (r *replica) until(want map[string]float64) {
	r.t.Helper()
	var got map[string]float64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		got = r.told()
		well := true
		for name, v := range want {
			is, there := got[name]
			well = well && there && is == v
		}
		if well {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	for name, v := range want {
		if got[name] != v {
			r.t.Errorf("%s is %v, want %v", name, got[name], v)
		}
	}
	r.t.FailNow()
}

func setup(t *testing.T, js jetstream.JetStream, streams topology.Config) {
	t.Helper()
	if err := topology.Ensure(t.Context(), js, streams); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, js jetstream.JetStream, subjects ...string) {
	t.Helper()
	for _, s := range subjects {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: s, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheStateOfStreamsAndConsumersIsTold(t *testing.T) {
	js, streams := natstest.Run(t), topology.DefaultConfig()
	streams.Raw.MaxBytes = 1 << 20
	setup(t, js, streams)
	ctx := t.Context()
	delivery := topology.Delivery{AckWait: time.Minute, MaxAttempts: 5}
	orders, err := js.CreateOrUpdateConsumer(ctx, topology.StreamRaw, topology.EnrichConsumer("orders", delivery))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateOrUpdateConsumer(ctx, topology.StreamRaw, topology.EnrichConsumer("quiet", delivery)); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateOrUpdateConsumer(ctx, topology.StreamEnriched, jetstream.ConsumerConfig{Durable: "billing", FilterSubject: "tercel.enriched.>"}); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "tercel.raw.orders.north.a", "tercel.raw.orders.north.b", "tercel.raw.orders.north.c", "tercel.raw.other.north.d")
	batch, err := orders.Fetch(2)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() { // the first is acknowledged, the second in hand
		if meta, _ := m.Metadata(); meta.Sequence.Stream == 1 {
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := topology.PauseSource(ctx, js, "quiet"); err != nil {
		t.Fatal(err)
	}
	r := start(t, js, streams)
	const enrich = " name=orders,stage=enrich,stream=TERCEL_RAW"
	r.until(map[string]float64{
		"tercel.stream.messages stream=TERCEL_RAW":                                     4,
		"tercel.stream.sequence stream=TERCEL_RAW":                                     4,
		"tercel.stream.limit stream=TERCEL_RAW":                                        1 << 20,
		"tercel.stream.replicas stream=TERCEL_RAW":                                     1,
		"tercel.stream.replicas.behind stream=TERCEL_RAW":                              0,
		"tercel.stream.messages stream=TERCEL_DLQ":                                     0,
		"tercel.stream.age stream=TERCEL_DLQ":                                          0,
		"tercel.consumer.pending" + enrich:                                             1,
		"tercel.consumer.unacknowledged" + enrich:                                      1,
		"tercel.consumer.floor" + enrich:                                               1,
		"tercel.consumer.behind" + enrich:                                              2, // to message 3: the last is none of its own
		"tercel.consumer.paused" + enrich:                                              0,
		"tercel.consumer.paused name=quiet,stage=enrich,stream=TERCEL_RAW":             1,
		"tercel.consumer.oldest name=quiet,stage=enrich,stream=TERCEL_RAW":             0,
		"tercel.consumer.pending name=billing,stage=downstream,stream=TERCEL_ENRICHED": 0,
		"tercel.consumers.untold":                                                      0,
		"tercel.stream.messages stream=KV_tercel_leases":                               1,
	})
	got := r.told()
	// As old as message 2, which is less than the first and more than none.
	if age, first := got["tercel.consumer.oldest"+enrich], got["tercel.stream.age stream=TERCEL_RAW"]; age <= 0 || age >= first {
		t.Errorf("oldest message of orders is %v s old, want more than 0 and less than the stream's %v", age, first)
	}
	if got["tercel.store.size"] < got["tercel.stream.size stream=TERCEL_RAW"] || got["tercel.stream.size stream=TERCEL_RAW"] <= 0 {
		t.Errorf("store takes %v, TERCEL_RAW %v of it", got["tercel.store.size"], got["tercel.stream.size stream=TERCEL_RAW"])
	}
	if _, there := got["tercel.stream.limit stream=TERCEL_DLQ"]; there {
		t.Error("a limit is told of a stream without one")
	}
}

// However many replicas there are, each figure is told once; when the one that
// tells goes, another does.
func TestOneReplicaTells(t *testing.T) {
	js, streams := natstest.Run(t), topology.DefaultConfig()
	setup(t, js, streams)
	replicas := []*replica{start(t, js, streams), start(t, js, streams), start(t, js, streams)}
	telling := func() (at []int) {
		for i, r := range replicas {
			if len(r.told()) > 0 {
				at = append(at, i)
			}
		}
		return at
	}
	wait := func() int {
		for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
			at := telling()
			if len(at) > 1 {
				t.Fatalf("replicas %v tell, want one", at)
			}
			if len(at) == 1 {
				return at[0]
			}
			if time.Now().After(deadline) {
				t.Fatal("no replica tells")
			}
		}
	}
	for len(replicas) > 0 {
		i := wait()
		r := replicas[i]
		replicas = slices.Delete(replicas, i, i+1)
		r.end()
		if n := len(r.told()); n != 0 {
			t.Errorf("a replica that has stopped tells %d figures", n)
		}
	}
}

// Who loses the lease falls silent at once, or two would tell.
func TestWithoutTheLeaseNothingIsTold(t *testing.T) {
	js, streams := natstest.Run(t), topology.DefaultConfig()
	setup(t, js, streams)
	r := start(t, js, streams)
	r.until(map[string]float64{"tercel.stream.messages stream=TERCEL_RAW": 0})
	leases, err := js.KeyValue(t.Context(), topology.BucketLeases)
	if err != nil {
		t.Fatal(err)
	}
	for { // the replica may be quicker to take it again
		if err := leases.Purge(t.Context(), "census"); err != nil {
			t.Fatal(err)
		}
		lease, err := cursor.Acquire(t.Context(), js, "census", time.Minute)
		if err == nil {
			defer lease.Release()
			break
		}
		if !errors.Is(err, cursor.ErrHeld) {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); len(r.told()) > 0; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a replica tells a minute after it lost the lease")
		}
	}
}

// Other teams can't make as many series as they like.
func TestConsumersOfOthersAreBounded(t *testing.T) {
	js, streams := natstest.Run(t), topology.DefaultConfig()
	setup(t, js, streams)
	for i := range 120 {
		if _, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched, jetstream.ConsumerConfig{Durable: fmt.Sprintf("team-%03d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateOrUpdateConsumer(t.Context(), topology.StreamEnriched,
		topology.DeliverConsumer("zebra", []string{"tercel.enriched.>"}, topology.Delivery{AckWait: time.Minute, MaxAttempts: 5})); err != nil {
		t.Fatal(err)
	}
	r := start(t, js, streams)
	r.until(map[string]float64{
		"tercel.consumers.untold": 20,
		"tercel.consumer.pending name=team-099,stage=downstream,stream=TERCEL_ENRICHED": 0,
		"tercel.consumer.pending name=zebra,stage=deliver,stream=TERCEL_ENRICHED":       0,
	})
	n := 0
	for name := range r.told() {
		if strings.HasPrefix(name, "tercel.consumer.pending") && strings.Contains(name, "stage=downstream") {
			n++
		}
	}
	if n != 100 {
		t.Errorf("%d consumers of others are told, want 100", n)
	}
}

// A server of a cluster that goes leaves its replicas behind until it is back.
func TestAReplicaThatIsAwayIsBehind(t *testing.T) {
	servers, streams := natstest.Cluster(t, false), topology.DefaultConfig()
	streams.Replicas = 3
	js, err := jetstream.New(servers[0].Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	setup(t, js, streams)
	r := start(t, js, streams)
	const behind = "tercel.stream.replicas.behind stream="
	r.until(map[string]float64{behind + topology.StreamRaw: 0, behind + topology.StreamDLQ: 0})
	servers[2].Stop()
	r.until(map[string]float64{behind + topology.StreamRaw: 1, behind + topology.StreamDLQ: 1})
	servers[2].Resume()
	r.until(map[string]float64{behind + topology.StreamRaw: 0, behind + topology.StreamDLQ: 0})
}

// broken has no instrument observed.
type (
	broken      struct{ noop.MeterProvider }
	brokenMeter struct{ noop.Meter }
)

func (broken) Meter(string, ...api.MeterOption) api.Meter { return brokenMeter{} }

func (brokenMeter) RegisterCallback(api.Callback, ...api.Observable) (api.Registration, error) {
	return nil, errors.New("no room")
}

// Whoever gets an error has nothing to close. It isn't parallel: the provider is
// that of all tests.
func TestNewWithoutItsGaugesReturnsNoCensus(t *testing.T) {
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(broken{})
	defer otel.SetMeterProvider(before)
	if c, err := census.New(census.Config{Streams: topology.DefaultConfig()}, census.Deps{}); err == nil || c != nil {
		t.Errorf("New() = %v, %v; want an error alone", c, err)
	}
}
