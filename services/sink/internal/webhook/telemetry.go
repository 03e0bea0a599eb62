package webhook

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// instruments are made once per receiver with their attributes ready.
type instruments struct {
	duration metric.Float64Histogram
	attrs    map[kind]metric.MeasurementOption
}

func newInstruments(destination string) (instruments, error) {
	duration, err := metrics.WebhooksSent.Histogram()
	if err != nil {
		return instruments{}, err
	}
	i := instruments{duration: duration, attrs: map[kind]metric.MeasurementOption{}}
	for _, k := range []kind{taken, refused, doubtful, outage, gone, unsent} {
		i.attrs[k] = metrics.WebhooksSent.With(destination, string(k))
	}
	return i, nil
}

func (i instruments) sent(ctx context.Context, k kind, took time.Duration) {
	i.duration.Record(ctx, took.Seconds(), i.attrs[k])
}
