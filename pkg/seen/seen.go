// Package seen is the second line against repeats: it knows what was stored
// long after JetStream's dedup window has forgotten, up to a horizon of days.
//
// The window costs the server 135 to 350 bytes of memory for each id and keeps
// it from starting until all are read again, so it can last minutes. An
// [Index] keeps 8 bytes for each id in a table of its own (11 to 14 with its
// free places): a part of the id's hash and the sequence at which its message
// is stored in TERCEL_RAW. A hash proves nothing, so before something is called
// a repeat the message at that sequence is read, and must bear the very same
// Nats-Msg-Id. What can't be confirmed is no repeat: it is stored again, and
// the destinations absorb it (promise 4). No event is ever dropped for a
// collision.
//
// The order is stored first, then marked. Marks gather for two seconds and are
// written as one message of 12 bytes an id to TERCEL_SEEN, from which every
// index of every replica reads what the others have marked, and all of it when
// it starts. Marks that a crash takes along only mean that a later repeat is
// stored again. Between replicas the window covers those seconds.
//
// # Why so
//
// BenchmarkLines compares the ways of asking for an id and marking it once its
// event is stored: 100,000 ids, 64 at once, one node at page-cache durability,
// nats-server 2.15.2, two processors shared with the server.
//
//	                        cost per event  ids/s      memory per id    server's restart
//	this index              0.9 µs          1,100,000  70 B (see below)  5 ms
//	bucket with a TTL       25.7 µs         39,000     176 B            83 ms
//	a subject per id        11.3 µs         89,000     174 B            69 ms
//	a window of 72h         12.6 µs         79,000     213 B            62 ms
//
// The memory is that of client and server together. The other three take it
// from the server, on every replica of the stream, and grow without a bound;
// the index's is its process's own, holds marks that wait to be written, and
// is bounded by [Config].Memory. All but the index also sync each id to disk
// at the synced level. All survive a restart; the index reads its blocks then.
package seen

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how an [Index] works.
type Config struct {
	// Horizon is how far back marks are kept and read. Required.
	Horizon time.Duration
	// Window is the stream's dedup window. A repeat that comes within it of what this
	// process has stored of late can be left to the stream, which tells it without
	// reading. Defaults to none.
	Window time.Duration
	// Memory bounds the table. When it is full, the oldest marks go before
	// their time. Defaults to 32MiB, which is 3 million ids; the least is 2MiB.
	Memory config.Bytes
	// Flush is how often marks are written and those of others read. It must
	// be shorter than the dedup window. Defaults to 2s.
	Flush time.Duration
}

// Deps are the running things that an [Index] borrows.
type Deps struct {
	// JetStream has the streams. Required.
	JetStream jetstream.JetStream
	// Log takes what operators should know. Required.
	Log *slog.Logger
}

// Index knows where messages are stored by their Nats-Msg-Id. It is safe for
// concurrent use. Close it.
type Index struct {
	cfg    Config
	deps   Deps
	writer string // tells the index's own blocks from others'

	mu    sync.Mutex // guards those below
	table table
	fresh []mark           // not written yet
	raw   jetstream.Stream // nil until it was asked for

	lately lately

	next    uint64 // the sequence in TERCEL_SEEN to read next, 0 before the first; the loop's own
	healthy bool   // the last exchange with the server went well; the loop's own
	loaded  chan struct{}
	done    chan struct{} // closed by Close
	ended   chan struct{} // closed when the loop has returned
	closer  sync.Once
}

// Found is a message that is stored already.
type Found struct {
	// Sequence is its place in TERCEL_RAW, StoredAt when it came there.
	Sequence uint64
	StoredAt time.Time
	// EventID and DeliveryID are those of the event.
	EventID, DeliveryID string
}

// ErrNotFound is returned by [Index.At] when there is no such message any more.
var ErrNotFound = errors.New("message not stored")

// New returns an index that begins to read what was marked. It needs no
// reachable server.
func New(cfg Config, deps Deps) (*Index, error) {
	if cfg.Horizon <= 0 || deps.JetStream == nil || deps.Log == nil {
		return nil, errors.New("seen: no horizon, no jetstream or no log")
	}
	if cfg.Memory <= 0 {
		cfg.Memory = 32 << 20
	}
	if cfg.Flush <= 0 {
		cfg.Flush = 2 * time.Second
	}
	cfg.Window -= min(cfg.Window/4, windowMargin)
	x := &Index{
		cfg: cfg, deps: deps, writer: nuid.Next(), healthy: true, table: table{most: max(1, int(cfg.Memory/segmentBytes))},
		loaded: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}),
	}
	go x.loop()
	return x, nil
}

// windowMargin is how long before the end of the window nothing is left to the stream
// any more: its time began before the acknowledgement, and what is published now may
// reach it late.
const windowMargin = 10 * time.Second

// Loaded returns a channel that is closed once everything that was marked
// before has been read. Until then an old repeat may go unnoticed.
func (x *Index) Loaded() <-chan struct{} { return x.loaded }

// Close writes the marks that are left, if the server takes them within two
// seconds, and ends the index.
func (x *Index) Close() {
	x.closer.Do(func() { close(x.done) })
	<-x.ended
}

// Len is the number of marks in memory.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.table.len()
}

// Bounds of a question.
const (
	confirmTimeout = time.Second
	// maxCandidates bounds the messages that are read for one id. More than one
	// has its hash only if somebody searched for such ids.
	maxCandidates = 4
)

// Find reports whether a message with this Nats-Msg-Id was stored within the
// horizon, and is there still. It asks the server only if the table has the id's hash:
// for one in 1,400 new ids with 3 million marks. It waits a second at most; what isn't
// confirmed by then isn't found. Nor, unless recent is asked for, is what this process
// has stored within the stream's window: it is to be stored again, which asks the stream
// and costs no reading.
func (x *Index) Find(ctx context.Context, msgID string, horizon time.Duration, recent bool) (Found, bool) {
	var candidates [maxCandidates]uint64
	x.mu.Lock()
	n := x.table.find(hash(msgID), candidates[:])
	x.mu.Unlock()
	if n == 0 {
		return Found{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	for _, seq := range candidates[:n] {
		if _, ok := x.own(msgID, seq); ok && !recent {
			continue
		}
		m, err := x.get(ctx, seq)
		if err == nil && m.Header.Get(jetstream.MsgIDHeader) == msgID && time.Since(m.Time) < horizon {
			return found(m), true
		}
	}
	return Found{}, false
}

// own returns what this process has stored at a sequence within the window, under
// this Nats-Msg-Id.
func (x *Index) own(msgID string, sequence uint64) (Found, bool) {
	o, ok := x.lately.at(sequence, time.Now().Add(-x.cfg.Window))
	return o.Found, ok && o.msgID == msgID
}

// At returns what is stored at a sequence of TERCEL_RAW, or [ErrNotFound]. The stream
// has just told that a message with this Nats-Msg-Id is there.
func (x *Index) At(ctx context.Context, msgID string, sequence uint64) (Found, error) {
	if first, ok := x.own(msgID, sequence); ok {
		return first, nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	m, err := x.get(ctx, sequence)
	if err != nil {
		return Found{}, fmt.Errorf("%s %d: %w", topology.StreamRaw, sequence, err)
	}
	return found(m), nil
}

// Mark notes that the message with this Nats-Msg-Id is stored at sequence.
// It must be: call it after the acknowledgement. It never waits.
func (x *Index) Mark(msgID string, sequence uint64) {
	m := mark{hash(msgID), sequence}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.table.has(m) {
		return
	}
	x.add(m, time.Now())
	if len(x.fresh) < maxFresh {
		x.fresh = append(x.fresh, m)
	}
}

// Stored is [Index.Mark] for the first message with this Nats-Msg-Id, which the
// stream has just acknowledged, and notes what is in it.
func (x *Index) Stored(msgID string, first Found) {
	x.lately.add(msgID, first)
	x.Mark(msgID, first.Sequence)
}

// maxFresh bounds the marks that wait for a server that takes none. Later ones
// are known to this process only.
const maxFresh = 1 << 17

// add puts a mark into the table. x.mu must be held.
func (x *Index) add(m mark, at time.Time) {
	if early, ok := x.table.add(m, at); ok && time.Since(early) < x.cfg.Horizon {
		x.deps.Log.LogAttrs(context.Background(), slog.LevelWarn, "memory for repeats is full, the oldest ids are forgotten before the horizon",
			slog.Time("forgotten_through", early), slog.Duration("horizon", x.cfg.Horizon), slog.Int64("memory", int64(x.cfg.Memory)))
	}
}

func hash(msgID string) uint32 {
	var buf [512]byte // so that it stays on the stack
	sum := sha256.Sum256(append(buf[:0], msgID...))
	return binary.BigEndian.Uint32(sum[:])
}

// get reads a message from the stream's leader or, where the stream allows it,
// from any replica.
func (x *Index) get(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	stream, err := x.rawStream(ctx)
	if err != nil {
		return nil, err
	}
	m, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrNotFound
	}
	return m, err
}

func (x *Index) rawStream(ctx context.Context) (jetstream.Stream, error) {
	x.mu.Lock()
	stream := x.raw
	x.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := x.deps.JetStream.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.raw = stream
	x.mu.Unlock()
	return stream, nil
}
