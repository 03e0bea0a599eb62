package boot

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
)

// NewStarter is what Main runs.
func NewStarter(name string, file *pipeline.File, log *slog.Logger, build func(Env) (Service, error)) Service {
	return &starter{name: name, file: file, log: log, build: build, ensure: topology.Ensure}
}

// NewImpatientStarter is what Main runs, but that each attempt to set the streams
// up takes half a second and not a minute.
func NewImpatientStarter(name string, file *pipeline.File, log *slog.Logger, build func(Env) (Service, error)) Service {
	return &starter{
		name: name, file: file, log: log, build: build,
		ensure: func(ctx context.Context, js jetstream.JetStream, c topology.Config) error {
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			return topology.Ensure(ctx, js, c)
		},
	}
}

// Command is Main for a command line and streams of a test's own.
func Command(ctx context.Context, name string, args []string, out, errs io.Writer, build func(Env) (Service, error)) int {
	return command(ctx, name, args, out, errs, build)
}

// Stay is the time at one server.
type Stay = stay

// NewStay begins at now.
var NewStay = newStay

// Over reports whether it is to end.
func (s *Stay) Over(now time.Time, silent time.Duration, unanswered int) bool {
	return s.over(now, silent, unanswered)
}

// Leave ends it.
func (s *Stay) Leave(now time.Time) { s.leave(now) }

// MajorityAt is by what a connection is judged.
var MajorityAt = majorityAt
