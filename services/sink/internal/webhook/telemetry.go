package webhook

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are made once per receiver with their attributes ready.
type instruments struct {
	duration metric.Float64Histogram
	attrs    map[kind]metric.MeasurementOption
}

func newInstruments(destination string) (instruments, error) {
	duration, err := otel.Meter("github.com/tercelhq/tercel/services/sink").Float64Histogram("tercel.webhooks.sent",
		metric.WithUnit("s"), metric.WithDescription("Time that an outgoing webhook took, by destination and outcome."),
		metric.WithExplicitBucketBoundaries(.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	i := instruments{duration: duration, attrs: map[kind]metric.MeasurementOption{}}
	for _, k := range []kind{taken, refused, doubtful, outage, gone, unsent} {
		i.attrs[k] = metric.WithAttributeSet(attribute.NewSet(
			attribute.String("destination", destination), attribute.String("outcome", string(k))))
	}
	return i, nil
}

func (i instruments) sent(ctx context.Context, k kind, took time.Duration) {
	i.duration.Record(ctx, took.Seconds(), i.attrs[k])
}
