package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"

	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// Telemetry is the process's OpenTelemetry set-up. It is global: one process
// has one.
type Telemetry struct {
	registry *prometheus.Registry
	meters   *sdkmetric.MeterProvider
	traces   *sdktrace.TracerProvider
}

// maxSeries bounds the series of one metric in a process: more than any pipeline
// file that is sensible makes, and few enough for what collects them. What is
// beyond it is counted together, under otel_metric_overflow.
const maxSeries = 5000

// StartTelemetry sets the global tracer, meter and propagator. Metrics are
// always to be had from [Telemetry.Handler]; with an OTLP endpoint, in cfg or
// in OTEL_EXPORTER_OTLP_ENDPOINT, traces and metrics are sent there as well.
// Traces get ids and travel through the pipeline even where nobody takes them.
// What can't be sent is told in log.
func StartTelemetry(ctx context.Context, name string, cfg pipeline.Telemetry, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	prom, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	res := resource.NewSchemaless(semconv.ServiceName("tercel-"+name), semconv.ServiceVersion(Version()))
	meterOpts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(prom), sdkmetric.WithCardinalityLimit(maxSeries)}
	traceOpts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Sample))),
	}
	if cfg.OTLP != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		spans, periodic, err := otlp(ctx, cfg.OTLP)
		if err != nil {
			return nil, err
		}
		traceOpts = append(traceOpts, sdktrace.WithBatcher(spans))
		meterOpts = append(meterOpts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(periodic)))
	}
	t.meters, t.traces = sdkmetric.NewMeterProvider(meterOpts...), sdktrace.NewTracerProvider(traceOpts...)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry not sent", slog.Any("err", err)) }))
	otel.SetMeterProvider(t.meters)
	otel.SetTracerProvider(t.traces)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	_, err = metrics.Observe(func(o metrics.Observer) {
		o.Set(metrics.BuildInfo, 1, name, Version(), runtime.Version())
	}, metrics.BuildInfo)
	return t, err
}

func otlp(ctx context.Context, endpoint string) (sdktrace.SpanExporter, sdkmetric.Exporter, error) {
	var spanOpts []otlptracehttp.Option
	var metricOpts []otlpmetrichttp.Option
	if endpoint != "" {
		spanOpts = append(spanOpts, otlptracehttp.WithEndpointURL(endpoint+"/v1/traces"))
		metricOpts = append(metricOpts, otlpmetrichttp.WithEndpointURL(endpoint+"/v1/metrics"))
	}
	spans, err := otlptracehttp.New(ctx, spanOpts...)
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry.otlp: %w", err)
	}
	metrics, err := otlpmetrichttp.New(ctx, metricOpts...)
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry.otlp: %w", err)
	}
	return spans, metrics, nil
}

// Handler serves the metrics in Prometheus's format.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Shutdown sends what has not been sent yet. It takes at most 5 seconds.
func (t *Telemetry) Shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := errors.Join(t.traces.Shutdown(ctx), t.meters.Shutdown(ctx)); err != nil {
		otel.Handle(err)
	}
}
