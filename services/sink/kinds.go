package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/ndjson"
	"github.com/tercelhq/tercel/services/sink/internal/objects"
	"github.com/tercelhq/tercel/services/sink/internal/postgres"
	"github.com/tercelhq/tercel/services/sink/internal/relay"
	"github.com/tercelhq/tercel/services/sink/internal/sqlite"
	"github.com/tercelhq/tercel/services/sink/internal/webhook"
)

// writer is an open destination.
type writer interface {
	// Write stores items and returns one result for each, in their order. A
	// result without an error means that the item is stored durably, now or
	// earlier. It may be called by several goroutines.
	Write(ctx context.Context, items []delivery.Item) []delivery.Result
	// Close ends the writer's use.
	Close() error
}

// setup is what a kind plans a destination from.
type setup struct {
	pipeline.Destination
	name string
	loop consume.Config
	log  *slog.Logger
}

// plan is how to open a destination, which is done again after every failure.
type plan struct {
	// target is the one place that it writes to. No two destinations have the
	// same; "" is no such place.
	target string
	open   func(context.Context) (writer, error)
	// tells says that results tell an outage themselves, and that a writer
	// wants to see also what comes after one began: open returns one with an error
	// too, which then holds back all that it is given.
	tells bool
	// loop, if set, is how the loop works for this destination.
	loop *consume.Config
}

// kinds make plans of all kinds of destinations, by their key in a pipeline
// file. What each promises is tested by the conformance suite, which has a row
// for each too.
var kinds = map[string]func(setup) (plan, error){
	"postgres": planPostgres,
	"sqlite":   planSQLite,
	"files":    planFiles,
	"http":     planHTTP,
	"nats":     planNATS,
	"s3":       planS3,
}

func newPlan(s setup) (plan, error) {
	kind, err := s.Kind()
	if err != nil {
		return plan{}, err
	}
	return kinds[kind](s)
}

func planPostgres(s setup) (plan, error) {
	c := postgres.Config{
		DSN: s.Postgres.DSN.Reveal(), Name: s.name, Records: s.Postgres.Mode != pipeline.Insert,
		Migrate: s.Postgres.Migrate == nil || *s.Postgres.Migrate, Table: s.Postgres.Table,
	}
	target, err := postgres.Check(c.DSN)
	if err != nil {
		return plan{}, fmt.Errorf("postgres.%w", err)
	}
	if c.Table != nil {
		target += " " + c.Table.Name
	}
	return plan{
		target: target,
		open:   func(ctx context.Context) (writer, error) { return postgres.Open(ctx, c, s.log) },
	}, nil
}

func planSQLite(s setup) (plan, error) {
	path := s.SQLite.Path
	if path == "" {
		return plan{}, errors.New("sqlite.path: missing")
	}
	return plan{
		target: absolute(path),
		open:   func(ctx context.Context) (writer, error) { return sqlite.Open(ctx, path) },
	}, nil
}

// defaultMaxSize is the size of a file where the configuration names none.
const defaultMaxSize = 64 << 20

func planFiles(s setup) (plan, error) {
	c := ndjson.Config{Dir: s.Files.Dir, MaxSize: int64(s.Files.MaxSize)}
	switch {
	case c.Dir == "":
		return plan{}, errors.New("files.dir: missing")
	case c.MaxSize < 0:
		return plan{}, errors.New("files.max_size: want more than 0")
	case c.MaxSize == 0:
		c.MaxSize = defaultMaxSize
	}
	return plan{
		target: absolute(c.Dir),
		open:   func(ctx context.Context) (writer, error) { return ndjson.Open(ctx, c) },
	}, nil
}

// planHTTP makes batches small enough that none outlasts its time, and lets two
// be under way, unless events of one record must not pass each other.
func planHTTP(s setup) (plan, error) {
	r, err := webhook.New(s.name, *s.HTTP, s.loop)
	if err != nil {
		return plan{}, err
	}
	loop := s.loop
	loop.Batch, loop.Workers = r.Batch(), 2
	if s.HTTP.Order == pipeline.OrderRecord {
		loop.Workers = 1
	}
	return plan{
		open: func(ctx context.Context) (writer, error) { return r, r.Open(ctx) },
		loop: &loop, tells: true,
	}, nil
}

func planNATS(s setup) (plan, error) {
	c := relay.Config{Relay: *s.NATS, Name: s.name, InHand: s.loop.Workers * s.loop.Batch}
	return plan{
		open: func(ctx context.Context) (writer, error) { return relay.Open(ctx, c, s.log) },
	}, nil
}

// planS3 gathers events for as long as the destination says: an object is as
// big as its batch.
func planS3(s setup) (plan, error) {
	cfg, loop := *s.S3, s.loop
	loop.Workers, loop.Linger = 1, cfg.MaxAge
	return plan{
		target: cfg.Endpoint + "/" + cfg.Bucket + "/" + cfg.Prefix,
		open: func(ctx context.Context) (writer, error) {
			return objects.Open(ctx, s.name, cfg)
		},
		loop: &loop,
	}, nil
}
