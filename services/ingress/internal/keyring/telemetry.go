package keyring

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/tercelhq/tercel/services/ingress/internal/keyring"

// meter counts fetches by what they brought.
type meter struct {
	fetches                      metric.Int64Counter
	good, unknown, notToBeHadNow metric.MeasurementOption
}

func newMeter(source string) (meter, error) {
	var m meter
	var err error
	m.fetches, err = otel.Meter(scope).Int64Counter("tercel.keys.fetched", metric.WithUnit("{fetch}"),
		metric.WithDescription("Senders' keys asked for, by source and outcome: good, unknown or unavailable."))
	if err != nil {
		return m, fmt.Errorf("instrument: %w", err)
	}
	set := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("source", source), attribute.String("outcome", outcome)))
	}
	m.good, m.unknown, m.notToBeHadNow = set("good"), set("unknown"), set("unavailable")
	return m, nil
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
