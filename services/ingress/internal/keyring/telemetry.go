package keyring

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
)

// meter counts fetches by what they brought.
type meter struct {
	fetches                      metric.Int64Counter
	good, unknown, notToBeHadNow metric.MeasurementOption
}

func newMeter(source string) (meter, error) {
	var m meter
	var err error
	m.fetches, err = metrics.KeysFetched.Counter()
	set := func(outcome string) metric.MeasurementOption { return metrics.KeysFetched.With(source, outcome) }
	m.good, m.unknown, m.notToBeHadNow = set("good"), set("unknown"), set("unavailable")
	return m, err
}

func (m meter) fetched(ctx context.Context, err error) {
	option := m.good
	switch {
	case errors.Is(err, ErrUnknown):
		option = m.unknown
	case err != nil:
		option = m.notToBeHadNow
	}
	m.fetches.Add(ctx, 1, option)
}
