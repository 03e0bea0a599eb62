package boot

import (
	"log/slog"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// NewStarter is what Main runs.
func NewStarter(name string, file *pipeline.File, log *slog.Logger, build func(Env) (Service, error)) Service {
	return &starter{name: name, file: file, log: log, build: build}
}
