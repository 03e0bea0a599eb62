package sink

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// instruments count one destination's events. How messages were answered is
// counted by package consume.
type instruments struct {
	events             metric.Int64Counter
	written, duplicate metric.MeasurementOption
}

func newInstruments(destination string) (instruments, error) {
	events, err := otel.Meter("github.com/tercelhq/tercel/services/sink").Int64Counter("tercel.events.delivered",
		metric.WithUnit("{event}"),
		metric.WithDescription("Events that a destination has, by destination and whether they were new to it."))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	attrs := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(
			attribute.String("destination", destination), attribute.String("outcome", outcome)))
	}
	return instruments{events, attrs("written"), attrs("duplicate")}, nil
}

func (i instruments) delivered(ctx context.Context, results []delivery.Result) {
	var written, duplicate int64
	for _, r := range results {
		switch {
		case r.Err != nil:
		case r.Duplicate:
			duplicate++
		default:
			written++
		}
	}
	if written > 0 {
		i.events.Add(ctx, written, i.written)
	}
	if duplicate > 0 {
		i.events.Add(ctx, duplicate, i.duplicate)
	}
}
