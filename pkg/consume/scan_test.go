package consume_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Promise 10: a scan whose messages are removed while it reads ends, rather
// than wait for what will never come.
func TestScanEndsWhenItsMessagesAreRemoved(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	const n = 2000 // more than a client asks for ahead
	for i := range n {
		m := nats.NewMsg(fmt.Sprint("tercel.raw.orders._.", i))
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	stream, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw, HeadersOnly: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if read++; read == 1 {
			if err := stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if read == 0 || read >= n {
		t.Errorf("read %d messages, want some of %d: the case is not the one meant", read, n)
	}
}

// Promise 10: a scan whose stream is removed while it reads ends with an error.
func TestScanEndsWithItsStream(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 { // more than a client asks for ahead
		if _, err := js.PublishAsync(fmt.Sprint("tercel.raw.orders._.", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	ended := make(chan error, 1)
	go func() {
		ended <- func() error {
			removed := false
			for _, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw, HeadersOnly: true}) {
				if err != nil {
					return err
				}
				if removed {
					continue
				}
				removed = true
				if err := js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
					t.Error(err)
				}
			}
			return nil
		}()
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the scan ended as if it had read everything")
		}
	case <-time.After(time.Minute):
		t.Error("the scan goes on a minute after its stream was removed")
	}
}

// Promise 6: a scan reads up to what the cluster has acknowledged, whichever
// replica it reads from.
func TestPromise6ScanOfAClusterReadsWhatWasStored(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(natstest.ConnectAll(t, natstest.Cluster(t, false)), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	cfg := topology.DefaultConfig()
	cfg.Replicas = 3
	if err := topology.Ensure(t.Context(), js, cfg); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		ack, err := js.Publish(t.Context(), "tercel.raw.orders._.paid", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "tercel.raw.other._.paid", nil); err != nil {
			t.Fatal(err)
		}
		var last uint64
		for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{
			Stream: topology.StreamRaw, Subjects: []string{"tercel.raw.orders.>"},
		}) {
			if err != nil {
				t.Fatal(err)
			}
			last = m.Sequence
		}
		if last != ack.Sequence {
			t.Fatalf("scan %d ended at %d, want %d, which was acknowledged", i, last, ack.Sequence)
		}
	}
}

// Promise 10: scans leave nothing behind on the server, ended early or not.
func TestScanLeavesNoConsumer(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := js.Publish(t.Context(), fmt.Sprint("tercel.raw.orders._.", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for most := range 4 {
		read := 0
		for _, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw}) {
			if err != nil {
				t.Fatal(err)
			}
			if read++; read > most {
				break
			}
		}
	}
	stream, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers are left, want none", n)
	}
}

// A stream whose last message was removed is read up to the one before.
func TestScanReadsAStreamWithoutItsLastMessage(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := js.Publish(t.Context(), fmt.Sprint("tercel.raw.orders._.", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, seq := range []uint64{4, 5} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[uint64]int{0: 3, 3: 1, 4: 0} {
		read := 0
		for _, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw, FromSequence: from}) {
			if err != nil {
				t.Fatal(err)
			}
			read++
		}
		if read != want {
			t.Errorf("from %d: read %d messages, want %d", from, read, want)
		}
	}
}
