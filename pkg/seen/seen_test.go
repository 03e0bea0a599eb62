package seen_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/seen"
	"github.com/tercelhq/tercel/pkg/topology"
)

type fixture struct {
	t      testing.TB
	server *natstest.Server
	js     jetstream.JetStream
	log    *logged
}

func setup(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, server: natstest.Start(t, false), log: &logged{}}
	var err error
	if f.js, err = jetstream.New(f.server.Connect(), natstest.Patient()); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return f
}

// index starts one that has read what there is.
func (f *fixture) index(change ...func(*seen.Config)) *seen.Index {
	f.t.Helper()
	cfg := seen.Config{Horizon: 72 * time.Hour, Flush: 10 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	x, err := seen.New(cfg, seen.Deps{JetStream: f.js, Log: slog.New(slog.NewTextHandler(f.log, nil))})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(x.Close)
	select {
	case <-x.Loaded():
	case <-time.After(time.Minute):
		f.t.Fatalf("not loaded within a minute\n%s", f.log)
	}
	return x
}

// store stores a message as the ingress does and returns its sequence.
func (f *fixture) store(id string) uint64 {
	f.t.Helper()
	m := nats.NewMsg("tercel.raw.orders._.order.paid")
	m.Header.Set(jetstream.MsgIDHeader, id)
	m.Header.Set(event.HeaderID, "event of "+id)
	ack, err := f.js.PublishMsg(f.t.Context(), m)
	if err != nil {
		f.t.Fatal(err)
	}
	return ack.Sequence
}

func (f *fixture) has(x *seen.Index, id string) bool {
	f.t.Helper()
	found, ok := x.Find(f.t.Context(), id, time.Hour, false)
	if ok && found.EventID != "event of "+id {
		f.t.Errorf("Find(%s) found %+v", id, found)
	}
	return ok
}

// Promise 4: what one replica has stored, all know, those that start later too.
func TestMarksReachAllReplicasAndOutliveThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, b := f.index(), f.index()
	for i := range 100 {
		id := fmt.Sprint("orders:_:", i)
		a.Mark(id, f.store(id))
		if !f.has(a, id) {
			t.Fatalf("%s is not known to who marked it", id)
		}
	}
	eventually(t, "the other replica knows all", func() bool { return b.Len() == 100 })
	a.Close()
	f.server.Stop()
	f.server.Resume()
	c := f.index()
	for i := range 100 {
		id := fmt.Sprint("orders:_:", i)
		if !f.has(b, id) || !f.has(c, id) {
			t.Errorf("%s is known to the other replica: %t, to a later one: %t", id, f.has(b, id), f.has(c, id))
		}
	}
	if f.has(b, "orders:_:100") {
		t.Error("an id that nobody stored is known")
	}
	found, err := c.At(t.Context(), "orders:_:0", 1)
	if err != nil || found.EventID != "event of orders:_:0" || found.Sequence != 1 || time.Since(found.StoredAt) > time.Minute {
		t.Errorf("At(1) = %+v, %v", found, err)
	}
}

// Promise 4: an id that shares its hash with a stored one is no repeat.
func TestCollisionsAreNoRepeats(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.index()
	byHash := map[[4]byte]string{}
	for i := 0; ; i++ {
		id := fmt.Sprint("orders:_:", i)
		sum := sha256.Sum256([]byte(id))
		other, collides := byHash[[4]byte(sum[:4])]
		if !collides {
			byHash[[4]byte(sum[:4])] = id
			continue
		}
		x.Mark(id, f.store(id))
		if f.has(x, other) {
			t.Errorf("%s, which was never stored, was taken for %s", other, id)
		}
		x.Mark(other, f.store(other))
		if !f.has(x, id) || !f.has(x, other) {
			t.Error("of two ids with one hash, one is not known")
		}
		return
	}
}

// What can't be confirmed is no repeat.
func TestOnlyWhatIsStillStoredAndYoungEnoughIsARepeat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.index()
	x.Mark("orders:_:never", 4711)
	seq := f.store("orders:_:gone")
	x.Mark("orders:_:gone", seq)
	x.Mark("orders:_:kept", f.store("orders:_:kept"))
	s, err := f.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"orders:_:never": false, "orders:_:gone": false, "orders:_:kept": true} {
		if got := f.has(x, id); got != want {
			t.Errorf("%s is known: %t, want %t", id, got, want)
		}
	}
	if _, ok := x.Find(t.Context(), "orders:_:kept", time.Nanosecond, false); ok {
		t.Error("a message older than the horizon is a repeat's first")
	}
	f.server.Stop()
	gone, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, ok := x.Find(gone, "orders:_:kept", time.Hour, false); ok {
		t.Error("a message that can't be read is a repeat's first")
	}
}

// Marks made while no server takes them reach it later, and blocks that are
// none are passed over.
func TestExchangeRecovers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, garbage := range []string{"", "\x02", "\x01short", strings.Repeat("\x01", 100_000)} {
		if _, err := f.js.Publish(t.Context(), topology.SubjectSeen, []byte(garbage)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := f.index(), f.index()
	seq := f.store("orders:_:1")
	f.server.Stop()
	a.Mark("orders:_:1", seq)
	f.server.Resume()
	eventually(t, "the other replica knows it", func() bool { return f.has(b, "orders:_:1") })
	if n := b.Len(); n != 1 {
		t.Errorf("%d marks, want 1", n)
	}
	// Made anew, the stream begins at 1 again.
	if err := f.js.DeleteStream(t.Context(), topology.StreamSeen); err != nil {
		t.Fatal(err)
	}
	nc := f.server.Connect()
	heard, err := nc.SubscribeSync(topology.SubjectSeen)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Mark("orders:_:2", f.store("orders:_:2"))
	if _, err := heard.NextMsg(time.Minute); err != nil { // which no stream takes
		t.Fatalf("the mark was not written: %v", err)
	}
	if err := topology.Ensure(t.Context(), f.js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	c := f.index()
	eventually(t, "the new stream has the new mark", func() bool { return f.has(c, "orders:_:2") })
}

// Promise 10: the table stays within its memory; the oldest marks go first.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.index(func(c *seen.Config) { c.Memory = 4 << 20 })
	first := f.store("orders:_:first")
	x.Mark("orders:_:first", first)
	var id [8]byte
	for i := range uint64(500_000) {
		binary.BigEndian.PutUint64(id[:], i)
		x.Mark(string(id[:]), i)
	}
	x.Mark("orders:_:last", f.store("orders:_:last"))
	if x.Bytes() > 4<<20 || x.Len() < 150_000 {
		t.Errorf("%d marks in %d bytes, want them to fill 4 MiB", x.Len(), x.Bytes())
	}
	if f.has(x, "orders:_:first") || !f.has(x, "orders:_:last") {
		t.Error("the newest mark was forgotten, or the oldest not")
	}
	eventually(t, "a warning", func() bool { return strings.Contains(f.log.String(), "forgotten before the horizon") })
}

func ExampleNew() {
	_, err := seen.New(seen.Config{Horizon: 72 * time.Hour}, seen.Deps{})
	fmt.Println(err)
	// Output: seen: no horizon, no jetstream or no log
}

type logged struct {
	mu   sync.Mutex // guards the text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Promise 4: what comes at the very end of the window may reach the stream behind it, so
// that is not left to the stream.
func TestTheEndOfTheWindowIsNotLeftToTheStream(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.index(func(c *seen.Config) { c.Window = time.Minute })
	for id, age := range map[string]time.Duration{"orders:_:sooner": 45 * time.Second, "orders:_:last": 55 * time.Second} {
		x.Stored(id, seen.Found{Sequence: f.store(id), StoredAt: time.Now().Add(-age), EventID: "event of " + id})
		if got, want := f.has(x, id), age > 50*time.Second; got != want {
			t.Errorf("%s: told here %t, want %t", id, got, want)
		}
	}
}

// Promises 1 and 4: a repeat of what this process has stored itself within the stream's
// window is the stream's to tell. It may have lost its end meanwhile, and what isn't
// there is no repeat's first.
func TestOwnMessagesWithinTheWindowAreLeftToTheStream(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := "orders:_:own"
	first := seen.Found{Sequence: f.store(id), StoredAt: time.Now(), EventID: "event of " + id}
	window := func(d time.Duration) func(*seen.Config) { return func(c *seen.Config) { c.Window = d } }
	within, beyond := f.index(window(time.Hour)), f.index(window(time.Nanosecond))
	for _, x := range []*seen.Index{within, beyond} {
		x.Stored(id, first)
	}
	if f.has(within, id) {
		t.Error("within the window the stream isn't asked")
	}
	if found, ok := within.Find(t.Context(), id, time.Hour, true); !ok || found.EventID != first.EventID {
		t.Errorf("asked for what is recent Find() = %+v, %t", found, ok)
	}
	if !f.has(beyond, id) {
		t.Error("beyond the window a message that is stored isn't found")
	}
	f.server.Stop()
	if found, err := within.At(t.Context(), id, first.Sequence); err != nil || found != first {
		t.Errorf("without a server At() = %+v, %v, want what this process has stored", found, err)
	}
	gone, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if found, err := within.At(gone, "orders:_:other", first.Sequence); err == nil {
		t.Errorf("At() of another id = %+v, want nothing: the stream was made anew", found)
	}
	for distance := uint64(1); distance <= 1<<16; distance <<= 1 { // whatever the size of what is kept
		if found, err := within.At(gone, id, first.Sequence+distance); err == nil {
			t.Errorf("At(%d) = %+v, want nothing", first.Sequence+distance, found)
		}
	}
}
