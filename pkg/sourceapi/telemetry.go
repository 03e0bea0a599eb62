package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/fault"
)

const scope = "github.com/tercelhq/tercel/pkg/sourceapi"

// outcome is how a request ended, a closed set.
type outcome string

const (
	answered  outcome = "answered"
	absent    outcome = "absent"
	throttled outcome = "throttled"
	refused   outcome = "refused"
	failed    outcome = "failed"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return answered
	case errors.Is(err, ErrNotFound):
		return absent
	}
	switch fault.ClassOf(err) {
	case fault.Throttled:
		return throttled
	case fault.Fatal:
		return refused
	default:
		return failed
	}
}

// instruments are made once per client with their attributes ready.
type instruments struct {
	duration metric.Float64Histogram
	attrs    map[outcome]metric.MeasurementOption
	span     trace.SpanStartEventOption
}

func newInstruments(source string) (instruments, error) {
	duration, err := otel.Meter(scope).Float64Histogram("tercel.api.requested", metric.WithUnit("s"),
		metric.WithDescription("Time that a request to a source's API took, by source and outcome."),
		metric.WithExplicitBucketBoundaries(.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30))
	if err != nil {
		return instruments{}, fmt.Errorf("instrument: %w", err)
	}
	i := instruments{duration: duration, attrs: map[outcome]metric.MeasurementOption{}}
	for _, o := range []outcome{answered, absent, throttled, refused, failed} {
		i.attrs[o] = metric.WithAttributeSet(attribute.NewSet(
			attribute.String("source", source), attribute.String("outcome", string(o))))
	}
	i.span = trace.WithAttributes(attribute.String("tercel.source", source), attribute.String("http.request.method", "GET"))
	return i, nil
}

// startSpan begins the span of one request. Its context stays here: a third
// party gets no trace headers.
func (c *Client) startSpan(ctx context.Context) (context.Context, trace.Span) {
	return otel.Tracer(scope).Start(ctx, "GET "+c.name, trace.WithSpanKind(trace.SpanKindClient), c.metrics.span)
}

func (c *Client) endSpan(ctx context.Context, span trace.Span, status int, err error, took time.Duration) {
	o := outcomeOf(err)
	if status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if err != nil && o != absent {
		span.SetStatus(codes.Error, string(fault.ClassOf(err)))
	}
	span.End()
	c.metrics.duration.Record(ctx, took.Seconds(), c.metrics.attrs[o])
}
