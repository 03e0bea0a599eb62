package consume

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
)

const scope = "github.com/tercelhq/tercel/pkg/consume"

// Outcome is the answer that a message got, a closed set.
type Outcome string

// The outcomes.
const (
	Acked      Outcome = "acked"
	Delayed    Outcome = "delayed"
	Terminated Outcome = "terminated"
)

// instruments are made once per loop with their attributes ready: building
// attribute sets per message costs more than counting.
type instruments struct {
	count    metric.Int64Counter
	held     metric.Int64UpDownCounter
	duration metric.Float64Histogram
	attrs    map[Outcome]metric.MeasurementOption
	stage    metric.MeasurementOption
	tracer   trace.Tracer
	spanName string
}

func newInstruments(stage, name string) (instruments, error) {
	meter := otel.Meter(scope)
	count, err := meter.Int64Counter("tercel.messages.settled", metric.WithUnit("{message}"),
		metric.WithDescription("Messages answered, by stage, source or destination, and outcome."))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	duration, err := meter.Float64Histogram("tercel.messages.handled", metric.WithUnit("s"),
		metric.WithDescription("Time from taking a message in hand to its answer."),
		metric.WithExplicitBucketBoundaries(.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	held, err := meter.Int64UpDownCounter("tercel.messages.held", metric.WithUnit("{message}"),
		metric.WithDescription("Messages in hand, by stage and source or destination: at most twice workers times batch."))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	attrs := map[Outcome]metric.MeasurementOption{}
	for _, o := range []Outcome{Acked, Delayed, Terminated} {
		attrs[o] = metric.WithAttributeSet(attribute.NewSet(attribute.String("stage", stage),
			attribute.String("name", name), attribute.String("outcome", string(o))))
	}
	return instruments{
		count: count, held: held, duration: duration, attrs: attrs,
		stage:  metric.WithAttributeSet(attribute.NewSet(attribute.String("stage", stage), attribute.String("name", name))),
		tracer: otel.Tracer(scope), spanName: stage + " " + name,
	}, nil
}

// hold counts messages that came into the hand, or went if n is negative.
func (i instruments) hold(n int) { i.held.Add(context.Background(), int64(n), i.stage) }

func (i instruments) settled(ctx context.Context, o Outcome, took time.Duration) {
	i.count.Add(ctx, 1, i.attrs[o])
	i.duration.Record(ctx, took.Seconds(), i.attrs[o])
}

// startSpan continues the trace that the message's headers carry.
func (l *Loop) startSpan(ctx context.Context, m Message) (context.Context, trace.Span) {
	ctx = event.ExtractTrace(ctx, m.Header)
	ctx, span := l.metrics.tracer.Start(ctx, l.metrics.spanName, trace.WithSpanKind(trace.SpanKindConsumer))
	if span.IsRecording() { // most are not, and attributes cost more than such a span
		span.SetAttributes(attribute.String("tercel.event_id", m.Header.Get(event.HeaderID)),
			attribute.Int("tercel.attempt", m.Attempt))
	}
	return ctx, span
}

func (l *Loop) endSpan(span trace.Span, o Outcome, err error) {
	if err != nil {
		span.SetStatus(codes.Error, string(fault.ClassOf(err)))
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("tercel.outcome", string(o)))
	}
	span.End()
}
