package api

import (
	"context"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// calls counts what was answered.
type calls struct{ n metric.Int64Counter }

func newCalls() (*calls, error) {
	n, err := metrics.CallsAnswered.Counter()
	return &calls{n}, err
}

// answered counts one call. Methods and codes are closed sets.
func (c *calls) answered(ctx context.Context, m method, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	c.n.Add(ctx, 1, metrics.CallsAnswered.With(m.name, code))
}
