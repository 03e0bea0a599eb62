package consume

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/metrics"
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
	count     metric.Int64Counter
	again     metric.Int64Counter
	held      metric.Int64UpDownCounter
	duration  metric.Float64Histogram
	completed metric.Float64Histogram
	attrs     map[Outcome]metric.MeasurementOption
	stage     metric.MeasurementOption
	tracer    trace.Tracer
	spanName  string
}

func newInstruments(stage, name string) (instruments, error) {
	var i instruments
	errs := [5]error{}
	i.count, errs[0] = metrics.MessagesSettled.Counter()
	i.duration, errs[1] = metrics.MessagesHandled.Histogram()
	i.completed, errs[2] = metrics.MessagesCompleted.Histogram()
	i.held, errs[3] = metrics.MessagesHeld.UpDownCounter()
	i.again, errs[4] = metrics.MessagesRedelivered.Counter()
	if err := errors.Join(errs[:]...); err != nil {
		return instruments{}, err
	}
	attrs := map[Outcome]metric.MeasurementOption{}
	for _, o := range []Outcome{Acked, Delayed, Terminated} {
		attrs[o] = metrics.MessagesSettled.With(stage, name, string(o))
	}
	i.attrs, i.stage = attrs, metrics.MessagesHeld.With(stage, name)
	i.tracer, i.spanName = otel.Tracer(scope), stage+" "+name
	return i, nil
}

// hold counts messages that came into the hand, or went if n is negative.
func (i instruments) hold(n int) { i.held.Add(context.Background(), int64(n), i.stage) }

// settled counts one message that was answered. Of a batch each has a trace of
// its own, which is the measurement's exemplar.
func (i instruments) settled(ctx context.Context, h *inHand, o Outcome, took time.Duration) {
	ctx = trace.ContextWithSpan(ctx, h.span)
	i.count.Add(ctx, 1, i.attrs[o])
	i.duration.Record(ctx, took.Seconds(), i.attrs[o])
	if o == Acked {
		i.completed.Record(ctx, time.Since(h.message.StoredAt).Seconds(), i.stage)
	}
	if h.delivered > 1 {
		i.again.Add(ctx, 1, i.stage)
	}
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
