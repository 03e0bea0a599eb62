package ingress

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/tercelhq/tercel/services/ingress"

// meter counts requests. Attribute sets are made once for each source and
// outcome: building them costs more than counting.
type meter struct {
	tracer   trace.Tracer
	answers  metric.Int64Counter
	duration metric.Float64Histogram
	bytes    metric.Int64Counter
	repeats  metric.Int64Counter
	stored   metric.Int64Counter
	strays   metric.Int64Counter
	sets     map[labels]options
	absorbs  map[absorption]options
}

// options are what a measurement with a set of attributes is made with, in
// slices of their own so that none has to be made for it.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func optionsOf(attributes ...attribute.KeyValue) options {
	o := metric.WithAttributeSet(attribute.NewSet(attributes...))
	return options{[]metric.AddOption{o}, []metric.RecordOption{o}}
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
	m, errs := &meter{tracer: otel.Tracer(scope), sets: map[labels]options{}, absorbs: map[absorption]options{}}, [6]error{}
	om := otel.Meter(scope)
	m.answers, errs[0] = om.Int64Counter("tercel.requests.answered", metric.WithUnit("{request}"),
		metric.WithDescription("Webhook requests answered, by source and outcome."))
	m.duration, errs[1] = om.Float64Histogram("tercel.requests.handled", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer, by source and outcome."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
	m.bytes, errs[2] = om.Int64Counter("tercel.bodies.received", metric.WithUnit("By"),
		metric.WithDescription("Bytes of webhook bodies read, by source."))
	m.repeats, errs[3] = om.Int64Counter("tercel.duplicates.absorbed", metric.WithUnit("{event}"),
		metric.WithDescription("Repeats of stored events, by source and the line that told them: window, horizon, body, listed or request."))
	m.stored, errs[4] = om.Int64Counter("tercel.triggers.stored", metric.WithUnit("{event}"),
		metric.WithDescription("Webhook events stored for the first time, by source. A request can hold several."))
	m.strays, errs[5] = om.Int64Counter("tercel.schemas.violated", metric.WithUnit("{event}"),
		metric.WithDescription("Webhook events that don't match their JSON Schema, by source, whether they are stored or refused."))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("instrument: %w", err)
		}
	}
	for _, source := range slices.Concat(sources, []string{""}) {
		for _, o := range slices.Concat(outcomes, []outcome{""}) {
			l := labels{source, o}
			m.sets[l] = l.options()
		}
		for _, l := range lines {
			m.absorbs[absorption{source, l}] = optionsOf(attribute.String("source", source), attribute.String("line", string(l)))
		}
	}
	return m, nil
}

func (m *meter) absorbed(ctx context.Context, source string, l line) {
	m.repeats.Add(ctx, 1, m.absorbs[absorption{source, l}].add...)
}

func (m *meter) violatedSchemas(ctx context.Context, source string, n int) {
	m.strays.Add(ctx, int64(n), m.sets[labels{source: source}].add...)
}

func (m *meter) storedTriggers(ctx context.Context, source string, n int) {
	m.stored.Add(ctx, int64(n), m.sets[labels{source: source}].add...)
}

func (m *meter) answered(in *inspection, res result, took time.Duration) {
	ctx := context.Background()
	l := labels{outcome: res.outcome}
	if in.route != nil {
		l.source = in.route.name
	}
	set := m.sets[l]
	m.answers.Add(ctx, 1, set.add...)
	m.duration.Record(ctx, took.Seconds(), set.record...)
	if len(in.received) > 0 {
		m.bytes.Add(ctx, int64(len(in.received)), m.sets[labels{source: l.source}].add...)
	}
}

func (l labels) options() options {
	var kvs []attribute.KeyValue
	if l.source != "" {
		kvs = append(kvs, attribute.String("source", l.source))
	}
	if l.outcome != "" {
		kvs = append(kvs, attribute.String("outcome", string(l.outcome)))
	}
	return optionsOf(kvs...)
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
