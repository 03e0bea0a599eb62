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
	answers  metric.Int64Counter
	duration metric.Float64Histogram
	bytes    metric.Int64Counter
	repeats  metric.Int64Counter
	sets     map[labels]metric.MeasurementOption
	absorbs  map[absorption]metric.MeasurementOption
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
	m, errs := &meter{sets: map[labels]metric.MeasurementOption{}, absorbs: map[absorption]metric.MeasurementOption{}}, [4]error{}
	om := otel.Meter(scope)
	m.answers, errs[0] = om.Int64Counter("tercel.requests.answered", metric.WithUnit("{request}"),
		metric.WithDescription("Webhook requests answered, by source and outcome."))
	m.duration, errs[1] = om.Float64Histogram("tercel.requests.handled", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer, by source and outcome."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
	m.bytes, errs[2] = om.Int64Counter("tercel.bodies.received", metric.WithUnit("By"),
		metric.WithDescription("Bytes of webhook bodies read, by source."))
	m.repeats, errs[3] = om.Int64Counter("tercel.duplicates.absorbed", metric.WithUnit("{request}"),
		metric.WithDescription("Repeats of stored events, by source and the line that told them: window, horizon or body."))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("instrument: %w", err)
		}
	}
	for _, source := range slices.Concat(sources, []string{""}) {
		for _, o := range slices.Concat(outcomes, []outcome{""}) {
			l := labels{source, o}
			m.sets[l] = l.option()
		}
		for _, l := range lines {
			m.absorbs[absorption{source, l}] = metric.WithAttributeSet(attribute.NewSet(
				attribute.String("source", source), attribute.String("line", string(l))))
		}
	}
	return m, nil
}

func (m *meter) absorbed(ctx context.Context, source string, l line) {
	m.repeats.Add(ctx, 1, m.absorbs[absorption{source, l}])
}

func (m *meter) answered(ctx context.Context, in *inspection, res result, took time.Duration) {
	l := labels{outcome: res.outcome}
	if in.route != nil {
		l.source = in.route.name
	}
	m.answers.Add(ctx, 1, m.sets[l])
	m.duration.Record(ctx, took.Seconds(), m.sets[l])
	if len(in.body) > 0 {
		m.bytes.Add(ctx, int64(len(in.body)), m.sets[labels{source: l.source}])
	}
}

func (l labels) option() metric.MeasurementOption {
	var kvs []attribute.KeyValue
	if l.source != "" {
		kvs = append(kvs, attribute.String("source", l.source))
	}
	if l.outcome != "" {
		kvs = append(kvs, attribute.String("outcome", string(l.outcome)))
	}
	return metric.WithAttributeSet(attribute.NewSet(kvs...))
}

// startSpan begins a trace. One that the request claims to be part of is
// anybody's invention, and isn't continued.
func startSpan(ctx context.Context, in *inspection, requestID string) (context.Context, trace.Span) {
	return otel.Tracer(scope).Start(ctx, "receive "+in.route.name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("tercel.source", in.route.name), attribute.String("tercel.request_id", requestID)))
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
		if res.status() >= 500 {
			span.SetStatus(codes.Error, string(res.outcome))
		}
	}
	span.End()
}
