package sink

import (
	"context"
	"errors"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/ndjson"
	"github.com/tercelhq/tercel/services/sink/internal/sqlite"
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

// defaultMaxSize is the size of a file where the configuration names none.
const defaultMaxSize = 64 << 20

// opener returns how to open the destination that cfg describes, and the one
// file or folder that it writes to.
func opener(cfg pipeline.Destination) (open func(context.Context) (writer, error), target string, err error) {
	switch {
	case (cfg.SQLite == nil) == (cfg.Files == nil):
		return nil, "", errors.New("want exactly one kind of destination: sqlite or files")
	case cfg.SQLite != nil:
		path := cfg.SQLite.Path
		if path == "" {
			return nil, "", errors.New("sqlite.path: missing")
		}
		return func(ctx context.Context) (writer, error) { return sqlite.Open(ctx, path) }, absolute(path), nil
	}
	c := ndjson.Config{Dir: cfg.Files.Dir, MaxSize: int64(cfg.Files.MaxSize)}
	switch {
	case c.Dir == "":
		return nil, "", errors.New("files.dir: missing")
	case c.MaxSize < 0:
		return nil, "", errors.New("files.max_size: want more than 0")
	case c.MaxSize == 0:
		c.MaxSize = defaultMaxSize
	}
	return func(ctx context.Context) (writer, error) { return ndjson.Open(ctx, c) }, absolute(c.Dir), nil
}
