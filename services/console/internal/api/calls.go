package api

import (
	"context"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// calls counts what was answered.
type calls struct{ n metric.Int64Counter }

func newCalls() (*calls, error) {
	n, err := otel.Meter("github.com/tercelhq/tercel/services/console").Int64Counter("tercel.calls.answered",
		metric.WithUnit("{call}"), metric.WithDescription("Calls of the admin API, by method and code."))
	return &calls{n}, err
}

// answered counts one call. Methods and codes are closed sets.
func (c *calls) answered(ctx context.Context, m method, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	c.n.Add(ctx, 1, metric.WithAttributes(attribute.String("method", m.name), attribute.String("code", code)))
}
