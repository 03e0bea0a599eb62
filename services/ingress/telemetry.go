package ingress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
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

	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

func tallyOf(attributes ...attribute.KeyValue) *tally {
	o := metric.WithAttributeSet(attribute.NewSet(attributes...))
	return &tally{add: []metric.AddOption{o}, record: []metric.RecordOption{o}, observe: []metric.ObserveOption{o}}
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
			l := labels{source, o}
			m.tallies[l] = l.tally()
		}
		for _, l := range lines {
			m.absorbs[absorption{source, l}] = tallyOf(attribute.String("source", source), attribute.String("line", string(l))).add
		}
	}
	om := otel.Meter(scope)
	m.duration, errs[0] = om.Float64Histogram("tercel.requests.handled", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer, by source and outcome."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
	m.repeats, errs[1] = om.Int64Counter("tercel.duplicates.absorbed", metric.WithUnit("{event}"),
		metric.WithDescription("Repeats of stored events, by source and the line that told them: window, horizon, body, listed or request."))
	m.strays, errs[2] = om.Int64Counter("tercel.schemas.violated", metric.WithUnit("{event}"),
		metric.WithDescription("Webhook events that don't match their JSON Schema, by source, whether they are stored or refused."))
	errs[3] = m.observe(om)
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("instrument: %w", err)
		}
	}
	return m, nil
}

// observe has the tallies read with all other metrics, to the end of the
// process: the last reading comes after the end of the service.
func (m *meter) observe(om metric.Meter) error {
	counters, errs := [3]metric.Int64ObservableCounter{}, [4]error{}
	counters[0], errs[0] = om.Int64ObservableCounter("tercel.requests.answered", metric.WithUnit("{request}"),
		metric.WithDescription("Webhook requests answered, by source and outcome."))
	counters[1], errs[1] = om.Int64ObservableCounter("tercel.bodies.received", metric.WithUnit("By"),
		metric.WithDescription("Bytes of webhook bodies read, by source."))
	counters[2], errs[2] = om.Int64ObservableCounter("tercel.triggers.stored", metric.WithUnit("{event}"),
		metric.WithDescription("Webhook events stored for the first time, by source. A request can hold several."))
	_, errs[3] = om.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		for _, t := range m.tallies {
			for i, n := range []int64{t.answers.Load(), t.bytes.Load(), t.stored.Load()} {
				if n > 0 {
					to.ObserveInt64(counters[i], n, t.observe...)
				}
			}
		}
		return nil
	}, counters[0], counters[1], counters[2])
	return errors.Join(errs[:]...)
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
	m.duration.Record(context.Background(), took.Seconds(), t.record...)
	if len(in.received) > 0 {
		m.tallies[labels{source: l.source}].bytes.Add(int64(len(in.received)))
	}
}

func (l labels) tally() *tally {
	var kvs []attribute.KeyValue
	if l.source != "" {
		kvs = append(kvs, attribute.String("source", l.source))
	}
	if l.outcome != "" {
		kvs = append(kvs, attribute.String("outcome", string(l.outcome)))
	}
	return tallyOf(kvs...)
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
