package sourceapi

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/metrics"
)

const scope = "github.com/tercelhq/tercel/pkg/sourceapi"

// outcome is how a request ended, a closed set.
type outcome string

const (
	endedAnswered  outcome = "answered"
	endedAbsent    outcome = "absent"
	endedThrottled outcome = "throttled"
	endedRefused   outcome = "refused"
	endedFailed    outcome = "failed"
)

func outcomeOf(v verdict, err error) outcome {
	switch {
	case err == nil:
		return endedAnswered
	case errors.Is(err, ErrNotFound):
		return endedAbsent
	case v.kind == throttled:
		return endedThrottled
	case v.kind == refused, v.kind == forbidden, fault.IsPermanent(err):
		return endedRefused
	default:
		return endedFailed
	}
}

// instruments are made once per client with their attributes ready.
type instruments struct {
	duration metric.Float64Histogram
	attrs    map[outcome]metric.MeasurementOption
	tracer   trace.Tracer
}

func newInstruments(source string) (instruments, error) {
	duration, err := metrics.APIRequested.Histogram()
	if err != nil {
		return instruments{}, err
	}
	i := instruments{duration: duration, tracer: otel.Tracer(scope), attrs: map[outcome]metric.MeasurementOption{}}
	for _, o := range []outcome{endedAnswered, endedAbsent, endedThrottled, endedRefused, endedFailed} {
		i.attrs[o] = metrics.APIRequested.With(source, string(o))
	}
	return i, nil
}

// gauges have the client's state told, until the registration is ended.
func (c *Client) gauges() (metric.Registration, error) {
	use := "enrich"
	if c.deps.Background {
		use = "reconcile"
	}
	return metrics.Observe(func(o metrics.Observer) {
		c.mu.Lock()
		part, waiting := c.part, 0
		for _, l := range c.lanes {
			waiting += l.gate.queued()
		}
		c.mu.Unlock()
		if most := c.cfg.Rate; most.Requests > 0 {
			o.Set(metrics.APIAllowed, float64(most.Requests)/most.Per.Seconds()*part, c.name, use)
		}
		o.Set(metrics.APIWaiting, float64(waiting), c.name, use)
		o.Set(metrics.APIHeld, c.Held().Seconds(), c.name, use)
	}, metrics.APIAllowed, metrics.APIWaiting, metrics.APIHeld)
}

// observed is one request while it is made.
type observed struct {
	*instruments
	span    trace.Span
	started time.Time
}

// observe begins the span of one request. Its context stays here: a third
// party gets no trace headers.
func (c *Client) observe(ctx context.Context, method string) (context.Context, observed) {
	ctx, span := c.metrics.tracer.Start(ctx, method+" "+c.name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() { // most are not, and attributes cost more than such a span
		span.SetAttributes(attribute.String("tercel.source", c.name), attribute.String("http.request.method", method))
	}
	return ctx, observed{&c.metrics, span, time.Now()}
}

func (o observed) end(ctx context.Context, status int, v verdict, err error) {
	how := outcomeOf(v, err)
	if status > 0 && o.span.IsRecording() {
		o.span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if err != nil && how != endedAbsent {
		o.span.SetStatus(codes.Error, string(how))
	}
	o.span.End()
	o.duration.Record(ctx, time.Since(o.started).Seconds(), o.attrs[how])
}
