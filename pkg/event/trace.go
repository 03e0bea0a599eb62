package event

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/tercelhq/tercel/pkg/event"

// InjectTrace writes the trace of ctx into message headers as W3C
// traceparent, so that the next stage continues it.
func InjectTrace(ctx context.Context, h nats.Header) {
	otel.GetTextMapPropagator().Inject(ctx, carrier(h))
}

// ExtractTrace returns ctx with the trace that message headers carry.
func ExtractTrace(ctx context.Context, h nats.Header) context.Context {
	return otel.GetTextMapPropagator().Extract(ctx, carrier(h))
}

// BeginTrace writes into message headers a trace that begins here, with a span of
// that name, for what isn't sent in by a source: a record that reconciliation found,
// or an event that is sent once more. It is linked to the trace of ctx, which says
// who sends it, and to the one that the headers carried, which leads to the first
// time. To continue either would make one trace of a whole run, or of days.
func BeginTrace(ctx context.Context, name string, h nats.Header) {
	var links []trace.Link
	for _, c := range []context.Context{ctx, ExtractTrace(context.Background(), h)} {
		if sc := trace.SpanContextFromContext(c); sc.IsValid() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	ctx, span := otel.Tracer(scope).Start(ctx, name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...))
	InjectTrace(ctx, h)
	span.End()
}

// carrier keeps header names in lower case: unlike HTTP's, the names of NATS
// headers are told apart by case.
type carrier nats.Header

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c carrier) Set(key, value string) { c[key] = []string{value} }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
