package sink

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// Writer is an open destination.
type Writer = writer

// OpenWriter opens a destination as a [Service] does.
func OpenWriter(ctx context.Context, name string, d pipeline.Destination, log *slog.Logger) (Writer, error) {
	cfg := consume.DefaultConfig()
	cfg.Batch = 1000 // as many as a test may write at once
	p, err := newPlan(setup{d, name, cfg, log})
	if err != nil {
		return nil, err
	}
	return p.open(ctx)
}

// KindNames are the kinds that a [Service] knows.
func KindNames() []string { return slices.Sorted(maps.Keys(kinds)) }
