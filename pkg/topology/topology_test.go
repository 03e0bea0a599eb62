package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

func TestEnsureIsIdempotentAndConcurrent(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
				t.Errorf("Ensure() = %v", err)
			}
		})
	}
	wg.Wait()
	changes, err := topology.Diff(t.Context(), js, topology.DefaultConfig())
	if err != nil || len(changes) > 0 {
		t.Errorf("Diff() after Ensure() = %v, %v, want none", changes, err)
	}
}

func TestEnsureAppliesWhatLosesNothing(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	c.Raw.MaxAge, c.DedupWindow = 10*24*time.Hour, time.Hour
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config; got.MaxAge != c.Raw.MaxAge || got.Duplicates != time.Hour {
		t.Errorf("max_age %s, dedup window %s, want the new ones", got.MaxAge, got.Duplicates)
	}
}

// What a stream is described with is no setting: other words of an earlier version
// are no difference.
func TestADescriptionIsNoDifference(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), topology.StreamRefused)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Description = "Other words."
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if changes, err := topology.Diff(t.Context(), js, c); err != nil || len(changes) > 0 {
		t.Errorf("Diff() = %v, %v, want nothing", changes, err)
	}
}

// Streams of an earlier version get the bounds of this one.
func TestEnsureChangesTheBoundsOfStreamsThatExist(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	for _, s := range topology.Streams(c) {
		s.MaxConsumers, s.MaxMsgs, s.MaxMsgsPerSubject = -1, -1, -1
		if _, err := js.CreateStream(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range topology.Streams(c) {
		s, err := js.Stream(t.Context(), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().Config; got.MaxConsumers != want.MaxConsumers || got.MaxMsgs != want.MaxMsgs || got.MaxMsgsPerSubject != want.MaxMsgsPerSubject {
			t.Errorf("%s has %d consumers, %d messages and %d of a subject at most, want %d, %d and %d", want.Name, got.MaxConsumers,
				got.MaxMsgs, got.MaxMsgsPerSubject, want.MaxConsumers, want.MaxMsgs, want.MaxMsgsPerSubject)
		}
	}
}

// A stream has a consumer for each source or destination, and one for each scan:
// more than a server gives it by default.
func TestAStreamHasRoomForMoreThanAThousandConsumers(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	var next atomic.Int32
	var makers sync.WaitGroup
	for range 16 {
		makers.Go(func() {
			for n := next.Add(1); n <= 1001; n = next.Add(1) {
				if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
					Durable: fmt.Sprint("enrich_", n), AckPolicy: jetstream.AckExplicitPolicy, MemoryStorage: true,
				}); err != nil {
					t.Errorf("make consumer %d: %v", n, err)
					return
				}
			}
		})
	}
	makers.Wait()
}

// What is noted of a message is kept for as long as the message may be there.
func TestWaitsAreKeptAsLongAsMessages(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, tt := range map[string]struct{ raw, enriched, want time.Duration }{
		"for some time":       {2 * day, 3 * day, 3 * day},
		"triggers for ever":   {0, 3 * day, 0},
		"everything for ever": {0, 0, 0},
	} {
		c := topology.DefaultConfig()
		c.Raw.MaxAge, c.Enriched.MaxAge = tt.raw, tt.enriched
		for _, b := range topology.Buckets(c) {
			if b.Bucket == topology.BucketWaits && b.TTL != tt.want {
				t.Errorf("%s: waits are kept for %s, want %s", name, b.TTL, tt.want)
			}
		}
	}
}

func TestEnsureRefusesToLoseMessages(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	c := topology.DefaultConfig()
	c.Raw.MaxAge, c.Enriched.MaxBytes = time.Hour, 1<<20
	err := topology.Ensure(t.Context(), js, c)
	if !errors.Is(err, topology.ErrDestructive) {
		t.Fatalf("Ensure() with shorter limits = %v, want ErrDestructive", err)
	}
	for _, want := range []string{topology.StreamRaw, "max_age", topology.StreamEnriched, "max_bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q doesn't name %s", err, want)
		}
	}
}

// Promise 3: an advisory that no stream takes is gone, and so is its dead letter.
func TestAdvisoriesAreTakenBeforeAnyConsumerCanExist(t *testing.T) {
	t.Parallel()
	if first := topology.Streams(topology.DefaultConfig())[0].Name; first != topology.StreamAdvisories {
		t.Errorf("the first stream made is %s, want %s", first, topology.StreamAdvisories)
	}
}

// Promise 1: a full stream refuses what is new; it never drops what is stored.
func TestFullStreamsRefuse(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	c.Raw.MaxBytes = 4 << 10
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = js.Publish(t.Context(), "tercel.raw.s._.t", make([]byte, 256))
	}
	s, serr := js.Stream(t.Context(), topology.StreamRaw)
	if serr != nil {
		t.Fatal(serr)
	}
	if err == nil || s.CachedInfo().State.FirstSeq != 1 {
		t.Errorf("a full stream took more (%v) or dropped its oldest (first sequence %d)", err, s.CachedInfo().State.FirstSeq)
	}
}

// Promise 3: nobody repeats an advisory that was refused, so their stream lets
// go of what has been worked on long ago; and a window that can't be reported
// could never be finished.
func TestPromise3FullStreamsOfAdvisoriesAndReportsTakeTheNewest(t *testing.T) {
	t.Parallel()
	for stream, subject := range map[string]string{
		topology.StreamAdvisories: "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED." + topology.StreamRaw + ".enrich_orders",
		topology.StreamReports:    topology.PrefixReports + ".orders.order",
	} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			js := natstest.Run(t)
			c := topology.DefaultConfig()
			c.DeadLetters.MaxBytes, c.Reports.MaxBytes = 4<<10, 4<<10
			if err := topology.Ensure(t.Context(), js, c); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if _, err := js.Publish(t.Context(), subject, make([]byte, 256)); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			s, err := js.Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			if state := s.CachedInfo().State; state.LastSeq != 100 || state.Bytes > 4<<10 {
				t.Errorf("last sequence %d with %d bytes, want 100 in no more than 4096", state.LastSeq, state.Bytes)
			}
		})
	}
}

func TestLastForSeesOnlyWhatTheConsumerTakes(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := topology.EnrichConsumer("a", topology.Delivery{AckWait: time.Second, MaxAttempts: 3})
	if last, err := topology.LastFor(t.Context(), s, cfg); err != nil || last != 0 {
		t.Errorf("LastFor() on an empty stream = %d, %v", last, err)
	}
	for _, subject := range []string{"tercel.raw.a._.t", "tercel.raw.b._.t"} {
		if _, err := js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := topology.LastFor(t.Context(), s, cfg); err != nil || last != 1 {
		t.Errorf("LastFor() = %d, %v, want 1", last, err)
	}
}

func ExampleStage() {
	fmt.Println(topology.Stage(topology.EnrichDurable("stripe")))
	// Output: enrich stripe true
}
