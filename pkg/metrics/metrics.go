// Package metrics declares every metric of Tercel: its name, unit, meaning and
// labels. It is the one place where instruments are made, so that what is
// measured, docs/metrics.md, the dashboards and the alerts can't drift apart.
//
// A metric can only be given the labels that it is declared with, see
// [Metric.With]. Their values are either listed here, or names that an operator
// chose; none ever comes from a request, a message or an API's answer. So the
// number of series depends on the pipeline file alone.
package metrics

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scope is the instrumentation scope of all metrics.
const scope = "github.com/tercelhq/tercel"

// Kind is what a metric is, a closed set.
type Kind string

// The kinds.
const (
	Counter       Kind = "counter"   // only grows
	UpDownCounter Kind = "updown"    // grows and shrinks, and is added up over processes
	Gauge         Kind = "gauge"     // read when somebody asks
	Histogram     Kind = "histogram" // with exemplars where a trace is taken
)

// Label is one dimension of a metric.
type Label struct {
	Name string
	// Values are all that there can be. A label without any has names from the
	// pipeline file or the server's set-up.
	Values []string
	// About says what the label names.
	About string
}

// other stands for a value that is not declared.
const other = "other"

// Metric is one declared metric.
type Metric struct {
	// Name is the OpenTelemetry name, such as tercel.messages.settled.
	Name string
	Kind Kind
	// Unit is in UCUM: s, By, 1, or what is counted in braces.
	Unit string
	// About says what is measured, as one sentence.
	About string
	// Labels are the dimensions, in the order in which [Metric.With] takes them.
	Labels []Label
	// Bounds are the upper bounds of a histogram's buckets, in Unit.
	Bounds []float64
	// Observed says of a counter that it is read when somebody asks, rather than
	// added to.
	Observed bool
}

var all []*Metric

// declare enters m in the table.
func declare(m Metric) *Metric {
	all = append(all, &m)
	return &m
}

// All returns all metrics, by name. They must not be changed.
func All() []*Metric {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b *Metric) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// Prometheus is the name under which the metric is exposed at /metrics: that of
// its family, to which a histogram's series add _bucket, _sum and _count.
func (m *Metric) Prometheus() string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	switch m.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	case "{request}/s":
		name += "_per_second"
	case "1":
		if m.Kind == Gauge {
			name += "_ratio"
		}
	}
	if m.Kind == Counter {
		name += "_total"
	}
	return name
}

// With makes the labels of a measurement, from a value for each in the order of
// their declaration. An empty value leaves its label out. Make it once and keep
// it where a measurement must be cheap.
func (m *Metric) With(values ...string) metric.MeasurementOption {
	return metric.WithAttributeSet(m.set(values))
}

func (m *Metric) set(values []string) attribute.Set {
	kvs := make([]attribute.KeyValue, 0, len(values))
	for i, v := range values[:min(len(values), len(m.Labels))] {
		l := m.Labels[i]
		if v == "" {
			continue
		}
		if len(l.Values) > 0 && !slices.Contains(l.Values, v) {
			v = other
		}
		kvs = append(kvs, attribute.String(l.Name, v))
	}
	return attribute.NewSet(kvs...)
}

// Counter makes the instrument of a counter.
func (m *Metric) Counter() (metric.Int64Counter, error) {
	c, err := otel.Meter(scope).Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.About))
	return c, m.made(err, Counter, false)
}

// UpDownCounter makes the instrument of a counter that also shrinks.
func (m *Metric) UpDownCounter() (metric.Int64UpDownCounter, error) {
	c, err := otel.Meter(scope).Int64UpDownCounter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.About))
	return c, m.made(err, UpDownCounter, false)
}

// Histogram makes the instrument of a histogram. What is recorded with the
// context of a sampled trace is its exemplar.
func (m *Metric) Histogram() (metric.Float64Histogram, error) {
	h, err := otel.Meter(scope).Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.About),
		metric.WithExplicitBucketBoundaries(m.Bounds...))
	return h, m.made(err, Histogram, false)
}

// made is the error of an instrument that could not be made, or is another than
// its metric was declared as.
func (m *Metric) made(err error, k Kind, observed bool) error {
	if err == nil && (m.Kind != k || m.Observed != observed) {
		err = fmt.Errorf("it is declared as a %s, observed %t", m.Kind, m.Observed)
	}
	if err != nil {
		return fmt.Errorf("instrument %s: %w", m.Name, err)
	}
	return nil
}

// Observer takes the values of gauges and observed counters.
type Observer struct {
	to          metric.Observer
	instruments map[*Metric]metric.Observable
}

// Set tells the value of m with these labels, see [Metric.With]. Labels that
// are left out of a reading are no longer told.
func (o Observer) Set(m *Metric, value float64, labels ...string) {
	switch i := o.instruments[m].(type) {
	case metric.Float64Observable:
		o.to.ObserveFloat64(i, value, m.With(labels...))
	case metric.Int64Observable:
		o.to.ObserveInt64(i, int64(value), m.With(labels...))
	}
}

// Observe has read called whenever the gauges and observed counters ms are asked
// for, until the registration is ended. It must not wait for anything.
func Observe(read func(Observer), ms ...*Metric) (metric.Registration, error) {
	meter, instruments, list := otel.Meter(scope), map[*Metric]metric.Observable{}, []metric.Observable{}
	for _, m := range ms {
		var i metric.Observable
		var err error
		if m.Kind == Counter {
			i, err = meter.Int64ObservableCounter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.About))
			err = m.made(err, Counter, true)
		} else {
			i, err = meter.Float64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.About))
			err = m.made(err, Gauge, false)
		}
		if err != nil {
			return nil, err
		}
		instruments[m], list = i, append(list, i)
	}
	r, err := meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		read(Observer{to, instruments})
		return nil
	}, list...)
	if err != nil {
		return nil, fmt.Errorf("instrument: %w", err)
	}
	return r, nil
}
