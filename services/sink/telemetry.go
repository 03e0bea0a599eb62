package sink

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// instruments count one destination's events. How messages were answered is
// counted by package consume.
type instruments struct {
	events                              metric.Int64Counter
	aged                                metric.Float64Histogram
	written, duplicate, filtered, whole metric.MeasurementOption
}

func newInstruments(destination string) (instruments, error) {
	events, errEvents := metrics.EventsDelivered.Counter()
	aged, errAged := metrics.EventsAged.Histogram()
	if err := errors.Join(errEvents, errAged); err != nil {
		return instruments{}, err
	}
	attrs := func(outcome string) metric.MeasurementOption {
		return metrics.EventsDelivered.With(destination, outcome)
	}
	return instruments{events, aged, attrs("written"), attrs("duplicate"), attrs("filtered"), metrics.EventsAged.With(destination)}, nil
}

// delivered counts what became of items. How old an event is tells something of
// the pipeline only where it came as a webhook.
func (i instruments) delivered(ctx context.Context, items []delivery.Item, results []delivery.Result) {
	var written, duplicate int64
	for n, r := range results {
		switch {
		case r.Err != nil:
		case r.Duplicate:
			duplicate++
		default:
			written++
			if e := items[n].Event; e.Origin == event.Webhook {
				i.aged.Record(event.ExtractTrace(ctx, items[n].Header), time.Since(e.ReceivedAt).Seconds(), i.whole)
			}
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
