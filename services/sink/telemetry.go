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
	events                       metric.Int64Counter
	written, duplicate, filtered metric.MeasurementOption
}

func newInstruments(destination string) (instruments, error) {
	events, err := otel.Meter("github.com/tercelhq/tercel/services/sink").Int64Counter("tercel.events.delivered",
		metric.WithUnit("{event}"),
		metric.WithDescription("Events that a destination is through with, by destination and whether they were new to it, or it doesn't want them."))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	attrs := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(
			attribute.String("destination", destination), attribute.String("outcome", outcome)))
	}
	return instruments{events, attrs("written"), attrs("duplicate"), attrs("filtered")}, nil
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

// filter counts events that the destination's when leaves out.
func (i instruments) filter(ctx context.Context, n int) {
	if n > 0 {
		i.events.Add(ctx, int64(n), i.filtered)
	}
}
