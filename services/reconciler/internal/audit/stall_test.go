package audit_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
)

// A consumer that is ahead of its stream, as after a power cut that took the
// stream's tail, skips what is stored without a word. It is set going again.
func TestConsumerAheadOfItsStreamIsRepaired(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	f.trigger("fine1")
	f.answered()
	a := f.audit(time.Hour)
	if res, err := a.RunOnce(t.Context()); err != nil || res.Repaired != 0 {
		t.Fatalf("RunOnce() = %+v, %v, of a healthy pipeline", res, err)
	}
	if _, err := f.js.ResetConsumerToSequence(t.Context(), topology.StreamRaw, "enrich_orders", 1000); err != nil {
		t.Fatal(err)
	}
	f.trigger("fine2")
	if i := f.consumer(); i.NumPending != 0 || i.Delivered.Stream != 999 {
		t.Fatalf("consumer %+v: the case is not the one meant", i)
	}
	if res, err := a.RunOnce(t.Context()); err != nil || res.Repaired != 1 {
		t.Fatalf("RunOnce() = %+v, %v, want one repaired", res, err)
	}
	f.eventually("the second event", func() bool { return f.stored(topology.StreamEnriched) == 2 })
	// For a moment the server may show where the consumer stood before. A second
	// repair then only repeats what has its outcome.
	f.eventually("nothing is left to repair", func() bool {
		res, err := a.RunOnce(t.Context())
		return err == nil && res.Repaired == 0
	})
}

// The consumers of destinations, which nothing else audits, are looked after
// too; those of other teams are not.
func TestConsumersOfDestinationsAreRepaired(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	filters := []string{"tercel.enriched.orders.>", "tercel.enriched.stripe.>"}
	ours, err := f.js.CreateConsumer(ctx, topology.StreamEnriched,
		topology.DeliverConsumer("warehouse", filters, config().Delivery()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.CreateConsumer(ctx, topology.StreamEnriched, jetstream.ConsumerConfig{Durable: "analytics"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"deliver_warehouse", "analytics"} {
		if _, err := f.js.ResetConsumerToSequence(ctx, topology.StreamEnriched, name, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.js.PublishMsg(ctx, nats.NewMsg("tercel.enriched.orders._.order.paid")); err != nil {
		t.Fatal(err)
	}
	if res, err := f.audit(time.Hour).RunOnce(ctx); err != nil || res.Repaired != 1 {
		t.Fatalf("RunOnce() = %+v, %v, want one repaired", res, err)
	}
	if m, err := ours.Next(jetstream.FetchMaxWait(5 * time.Second)); err != nil || m == nil {
		t.Errorf("nothing delivered after the repair: %v", err)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	info := func(delivered, floor uint64, pending uint64, inHand, waiting int) *jetstream.ConsumerInfo {
		return &jetstream.ConsumerInfo{
			Delivered: jetstream.SequenceInfo{Stream: delivered}, AckFloor: jetstream.SequenceInfo{Stream: floor},
			NumPending: pending, NumAckPending: inHand, NumWaiting: waiting,
		}
	}
	tests := map[string]struct {
		info      *jetstream.ConsumerInfo
		last, end uint64
		want      string
	}{
		"has had all": {info(1840, 1840, 0, 0, 1), 1840, 1900, "healthy"},
		"stands at 439 and says nothing's pending": {info(439, 439, 0, 0, 1), 1840, 1840, "behind"},
		"has work to come":                         {info(439, 439, 1401, 0, 1), 1840, 1840, "healthy"},
		"has work in hand":                         {info(439, 430, 0, 9, 1), 1840, 1840, "healthy"},
		"nobody asks":                              {info(439, 439, 0, 0, 0), 1840, 1840, "healthy"},
		"held down by an exhausted message":        {info(1840, 5, 0, 0, 1), 1840, 1840, "healthy"},
		"has had what the stream never held":       {info(1840, 1840, 0, 0, 1), 439, 439, "ahead"},
		"the same, with nobody asking":             {info(1840, 1840, 0, 0, 0), 0, 439, "ahead"},
		"new on an empty stream":                   {info(0, 0, 0, 0, 1), 0, 0, "healthy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := audit.Judge(tt.info, tt.last, tt.end); got != tt.want {
				t.Errorf("Judge() = %s, want %s", got, tt.want)
			}
		})
	}
}

// A consumer that seems behind is set back to its ack floor if it stands where
// it stood a pass ago. No way is known to make a server tell such a state, so
// the state is made up; the stream, the consumer and its reset are real.
func TestConsumerBehindIsRepairedAtTheSecondPass(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.enricher(nil)
	for _, id := range []string{"fine1", "fine2", "fine3"} {
		f.trigger(id)
	}
	f.answered()
	stop()
	a, stream := f.audit(time.Hour), f.stream(topology.StreamRaw)
	told := f.consumer()
	told.Delivered.Stream, told.AckFloor.Stream, told.NumWaiting = 2, 1, 1
	for pass, want := range []bool{false, true, false} {
		got, err := a.Check(t.Context(), stream, told)
		if err != nil || got != want {
			t.Fatalf("pass %d: repaired %t, %v, want %t", pass+1, got, err, want)
		}
	}
	if i := f.consumer(); i.Delivered.Stream != 1 || i.NumPending != 2 {
		t.Errorf("consumer stands at %d with %d pending, want 1 with 2", i.Delivered.Stream, i.NumPending)
	}
	moved := *told
	moved.Delivered.Stream = 1
	if got, err := a.Check(t.Context(), stream, &moved); err != nil || got {
		t.Errorf("repaired %t, %v, one that has moved since the last pass", got, err)
	}
}

// After a consumer was set going again the server may still say for a moment that
// it is through with what it is given again. None of that has its outcome yet: its
// source is audited by the next pass.
func TestSourceOfARepairedConsumerIsLeftToTheNextPass(t *testing.T) {
	t.Parallel()
	f, a, _ := healthy(t, 1)
	f.trigger("fine1")
	stored := time.Now()
	f.answered()
	// As if the stream had lost its tail before that trigger: the consumer goes on
	// behind it, and is through with it by the server's word.
	if _, err := f.js.ResetConsumerToSequence(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"), 1000); err != nil {
		t.Fatal(err)
	}
	f.setProgress("healthy_at", time.Now().Add(time.Hour))
	f.eventually("the trigger is old enough for an audit", func() bool { return time.Since(stored) > 2*time.Second })
	if res := f.pass(a); res.Repaired != 1 || res.Audited != 0 {
		t.Errorf("%+v, want one consumer repaired and nothing audited", res)
	}
	if got := f.audited(a, 1); got.Recovered != 0 {
		t.Errorf("%+v, want the trigger audited, which has its event", got)
	}
}
