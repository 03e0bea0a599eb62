package timeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Config is how an [Index] is kept.
type Config struct {
	// Dir is a folder of its own, which one process uses at a time. Defaults to
	// none: the index is kept in memory and made anew at each start.
	Dir string
	// Source has the index hold the events of one source only. A folder belongs
	// to one choice. Defaults to all.
	Source string
}

// Deps are what an [Index] borrows and never closes.
type Deps struct {
	JetStream jetstream.JetStream
	Log       *slog.Logger
	// Redact has the rules of what timelines don't show. Defaults to those that
	// the running pipeline has left on the server.
	Redact redact.Set
}

// Index finds the messages that speak of an event. Have [Index.Run] follow the
// streams, or [Index.Fill] read them once. It is safe for concurrent use.
type Index struct {
	cfg     Config
	deps    Deps
	shelves map[string]*shelf // by stream

	mu      sync.Mutex // guards what follows
	handles map[string]jetstream.Stream
}

// New returns an index that has read nothing yet. The error says that its
// folder can't be used.
func New(cfg Config, deps Deps) (*Index, error) {
	if deps.JetStream == nil || deps.Log == nil {
		return nil, errors.New("timeline: no jetstream or no log")
	}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("folder of the index: %w", err)
		}
	}
	x := &Index{cfg: cfg, deps: deps, shelves: map[string]*shelf{}, handles: map[string]jetstream.Stream{}}
	for _, s := range streams {
		x.shelves[s.name] = &shelf{stream: s.name, dir: cfg.Dir}
	}
	return x, nil
}

// Run follows the streams until ctx ends, then writes to the folder what the
// next process will go on with, and returns nil unless that fails. It must be
// called once at most.
func (x *Index) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, s := range streams {
		all.Go(func() { x.follow(ctx, s) })
	}
	all.Go(func() { x.retain(ctx) })
	all.Wait()
	return x.save()
}

// Fill reads what the streams hold now, once, for a program that asks and ends.
// It reads about 50,000 messages a second.
func (x *Index) Fill(ctx context.Context) error {
	for _, s := range streams {
		if _, err := x.open(ctx, s); err != nil {
			return fmt.Errorf("read %s: %w", s.name, err)
		}
		last, _ := x.shelves[s.name].position()
		for m, err := range consume.Scan(ctx, x.deps.JetStream, consume.ScanOptions{
			Stream: s.name, Subjects: s.of(x.cfg.Source), HeadersOnly: !s.bodies, FromSequence: last + 1,
		}) {
			if err != nil {
				return err
			}
			x.take(ctx, s, m)
		}
	}
	return nil
}

// save writes what isn't in the folder yet and closes its files.
func (x *Index) save() error {
	var errs []error
	for _, s := range x.shelves {
		errs = append(errs, s.save())
		s.close()
	}
	return errors.Join(errs...)
}

// Coverage is how far the index knows one stream.
type Coverage struct {
	Stream string `json:"stream"`
	// Through is the last message that it knows, and At when that was stored.
	Through uint64    `json:"through"`
	At      time.Time `json:"at,omitzero"`
	// Last is the stream's last message. Where it is greater than Through, what
	// is stored behind that isn't found yet.
	Last uint64 `json:"last"`
}

// Behind reports whether the stream has messages that the index doesn't know.
func (c Coverage) Behind() bool { return c.Through < c.Last }

// Size is what the index takes: bytes of memory and of its folder, without what
// a process needs anyway.
func (x *Index) Size() (memory, disk int64) {
	for _, s := range x.shelves {
		m, d := s.bytes()
		memory, disk = memory+m, disk+d
	}
	return memory, disk
}

// patience is how long a question waits for an index that is a moment behind,
// so that what was stored before it is found.
const patience = time.Second

// Coverage returns how far the index knows each stream. It waits a second for
// what was stored before the call.
func (x *Index) Coverage(ctx context.Context) ([]Coverage, error) {
	all := make([]Coverage, len(streams))
	errs := make([]error, len(streams))
	until := time.Now().Add(patience)
	var group sync.WaitGroup
	for i, s := range streams {
		group.Go(func() { all[i], errs[i] = x.coverage(ctx, s, until) })
	}
	group.Wait()
	return all, errors.Join(errs...)
}

func (x *Index) coverage(ctx context.Context, s indexed, until time.Time) (Coverage, error) {
	c := Coverage{Stream: s.name}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := x.deps.JetStream.Stream(request, s.name)
	if err == nil {
		c.Last, err = topology.LastFor(request, stream, jetstream.ConsumerConfig{FilterSubjects: s.of(x.cfg.Source)})
	}
	if err != nil {
		return c, fmt.Errorf("end of %s: %w", s.name, err)
	}
	c.Through, c.At = x.shelves[s.name].wait(ctx, c.Last, until)
	return c, nil
}
