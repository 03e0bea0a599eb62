package ingress

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/metrics"
)

const scope = "github.com/tercelhq/tercel/services/ingress"

// meter counts requests. Attribute sets are made once for each source and
// outcome: building them costs more than counting. What every request counts is
// added up here, and the instruments ask for it when they are read.
type meter struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	repeats  metric.Int64Counter
	strays   metric.Int64Counter
	tallies  map[labels]*tally
	absorbs  map[absorption][]metric.AddOption
}

// tally is what was counted of one set of attributes. The options with it are
// in slices of their own so that none has to be made for a measurement.
type tally struct {
	answers, bytes, stored atomic.Int64

	add    []metric.AddOption
	record []metric.RecordOption
}

// absorption is what tercel.duplicates.absorbed is counted by.
type absorption struct {
	source string
	line   line
}

// labels are the attributes of a measurement. No name that a stranger chose is
// ever among them.
type labels struct {
	source  string  // "" where there is none
	outcome outcome // "" where it doesn't matter
}

func newMeter(sources []string) (*meter, error) {
	m, errs := &meter{tracer: otel.Tracer(scope), tallies: map[labels]*tally{}, absorbs: map[absorption][]metric.AddOption{}}, [4]error{}
	for _, source := range slices.Concat(sources, []string{""}) {
		for _, o := range slices.Concat(outcomes, []outcome{""}) {
			m.tallies[labels{source, o}] = &tally{
				add:    []metric.AddOption{metrics.SchemasViolated.With(source)},
				record: []metric.RecordOption{metrics.RequestsHandled.With(source, string(o))},
			}
		}
		for _, l := range lines {
			m.absorbs[absorption{source, l}] = []metric.AddOption{metrics.DuplicatesAbsorbed.With(source, string(l))}
		}
	}
	m.duration, errs[0] = metrics.RequestsHandled.Histogram()
	m.repeats, errs[1] = metrics.DuplicatesAbsorbed.Counter()
	m.strays, errs[2] = metrics.SchemasViolated.Counter()
	// Never ended: the last reading comes after the end of the service.
	_, errs[3] = metrics.Observe(m.observe, metrics.RequestsAnswered, metrics.BodiesReceived, metrics.TriggersStored)
	return m, errors.Join(errs[:]...)
}

// observe tells the tallies.
func (m *meter) observe(o metrics.Observer) {
	for l, t := range m.tallies {
		for metric, n := range map[*metrics.Metric]int64{
			metrics.RequestsAnswered: t.answers.Load(), metrics.BodiesReceived: t.bytes.Load(), metrics.TriggersStored: t.stored.Load(),
		} {
			if n > 0 {
				o.Set(metric, float64(n), l.source, string(l.outcome))
			}
		}
	}
}

func (m *meter) absorbed(ctx context.Context, source string, l line) {
	m.repeats.Add(ctx, 1, m.absorbs[absorption{source, l}]...)
}

func (m *meter) violatedSchemas(ctx context.Context, source string, n int) {
	m.strays.Add(ctx, int64(n), m.tallies[labels{source: source}].add...)
}

func (m *meter) storedTriggers(source string, n int) {
	m.tallies[labels{source: source}].stored.Add(int64(n))
}

func (m *meter) answered(in *inspection, res result, took time.Duration) {
	l := labels{outcome: res.outcome}
	if in.route != nil {
		l.source = in.route.name
	}
	t := m.tallies[l]
	t.answers.Add(1)
	ctx := context.Background()
	if in.trace.IsSampled() {
		ctx = trace.ContextWithSpanContext(ctx, in.trace)
	}
	m.duration.Record(ctx, took.Seconds(), t.record...)
	if len(in.received) > 0 {
		m.tallies[labels{source: l.source}].bytes.Add(int64(len(in.received)))
	}
}

var spanOptions = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}

// startSpan begins a trace. One that the request claims to be part of is
// anybody's invention, and isn't continued. Only a trace that somebody takes is
// given attributes.
//
// The context isn't the request's, so it outlives that: when the sender goes
// away, the outcome is waited for all the same, and a stored event isn't counted
// as one that was not. And what looks for the trace, as each measurement does,
// needn't search through the values of the server and the connection first.
func (m *meter) startSpan(in *inspection, requestID string) (context.Context, trace.Span) {
	ctx, span := m.tracer.Start(context.Background(), in.route.span, spanOptions...)
	in.trace = span.SpanContext()
	if span.IsRecording() {
		span.SetAttributes(attribute.String("tercel.source", in.route.name), attribute.String("tercel.request_id", requestID))
	}
	return ctx, span
}

func endSpan(span trace.Span, res result) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String("tercel.outcome", string(res.outcome)), attribute.Int("http.response.status_code", res.status()))
		if res.eventID != "" {
			span.SetAttributes(attribute.String("tercel.event_id", res.eventID))
		}
		if res.handshake != "" {
			span.SetAttributes(attribute.String("tercel.handshake", res.handshake))
		}
		if res.events > 0 {
			span.SetAttributes(attribute.Int("tercel.events", res.events))
		}
		if res.status() >= 500 {
			span.SetStatus(codes.Error, string(res.outcome))
		}
	}
	span.End()
}
