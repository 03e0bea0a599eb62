package boot

import (
	"context"
	"io"
	"log/slog"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// NewStarter is what Main runs.
func NewStarter(name string, file *pipeline.File, log *slog.Logger, build func(Env) (Service, error)) Service {
	return &starter{name: name, file: file, log: log, build: build}
}

// Command is Main for a command line and streams of a test's own.
func Command(ctx context.Context, name string, args []string, out, errs io.Writer, build func(Env) (Service, error)) int {
	return command(ctx, name, args, out, errs, build)
}

// MajorityAt is by what a connection is judged.
var MajorityAt = majorityAt
