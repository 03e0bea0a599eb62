package pipeline_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

func decodeDestination(t *testing.T, text string) (pipeline.Destination, error) {
	t.Helper()
	var d pipeline.Destination
	env := map[string]string{"S": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "SHORT": "whsec_c2hvcnQ=", "LINES": "a\r\nb: c"}
	err := config.Decode("destination", []byte(text), &d, config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}))
	return d, err
}

func TestDestinationsReportEveryFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"http, all well":        {"http: {url: https://hooks.example.com/x, secrets: [env:S], headers: {X-Key: env:S}, order: record}", ""},
		"http on the premises":  {"http: {url: http://10.0.0.1/x, secrets: [env:S], allow_private: true}", ""},
		"no url":                {"http: {secrets: [env:S]}", "http.url"},
		"no secret":             {"http: {url: https://hooks.example.com}", "http.secrets"},
		"a short secret":        {"http: {url: https://hooks.example.com, secrets: [env:SHORT]}", "http.secrets[0]"},
		"plain http":            {"http: {url: http://hooks.example.com, secrets: [env:S]}", "allow_private"},
		"a user in the url":     {"http: {url: https://me:pw@hooks.example.com, secrets: [env:S]}", "credentials are headers"},
		"the webhook's header":  {"http: {url: https://hooks.example.com, secrets: [env:S], headers: {Webhook-Id: env:S}}", "headers.Webhook-Id"},
		"the event's header":    {"http: {url: https://hooks.example.com, secrets: [env:S], headers: {ce-id: env:S}}", "headers.ce-id"},
		"the connection's":      {"http: {url: https://hooks.example.com, secrets: [env:S], headers: {transfer-encoding: env:S}}", "headers.transfer-encoding"},
		"lines in a header":     {"http: {url: https://hooks.example.com, secrets: [env:S], headers: {X-Key: env:LINES}}", "headers.X-Key"},
		"no such order":         {"http: {url: https://hooks.example.com, secrets: [env:S], order: stream}", "http.order"},
		"less than nothing":     {"http: {url: https://hooks.example.com, secrets: [env:S], concurrency: -1}", "http.concurrency"},
		"nats, all well":        {"nats: {url: nats://a.example.com, prefix: orders.enriched, stream: ORDERS}", ""},
		"no server":             {"nats: {prefix: orders}", "nats.url"},
		"no prefix":             {"nats: {url: nats://a.example.com}", "nats.prefix"},
		"Tercel's own subjects": {"nats: {url: nats://a.example.com, prefix: tercel.raw}", "would come back"},
		"Tercel's own, all":     {"nats: {url: nats://a.example.com, prefix: tercel}", "would come back"},
		"the server's subjects": {"nats: {url: nats://a.example.com, prefix: $JS.API}", "would come back"},
		"an inbox":              {"nats: {url: nats://a.example.com, prefix: _INBOX.x}", "would come back"},
		"a wildcard":            {"nats: {url: nats://a.example.com, prefix: orders.>}", "without wildcards"},
		"Tercel's own stream":   {"nats: {url: nats://a.example.com, prefix: orders, stream: TERCEL_RAW}", "nats.stream"},
		"s3, all well":          {"s3: {endpoint: https://s3.example.com, bucket: events, access_key: env:S, secret_key: env:S, format: parquet}", ""},
		"s3 without keys":       {"s3: {endpoint: https://s3.example.com, bucket: events}", "s3.access_key"},
		"s3 over plain http":    {"s3: {endpoint: http://s3.example.com, bucket: events, access_key: env:S, secret_key: env:S}", "allow_private"},
		"s3 with a user":        {"s3: {endpoint: https://me:pw@s3.example.com, bucket: events, access_key: env:S, secret_key: env:S}", "without a path or a user"},
		"no bucket's name":      {"s3: {endpoint: https://s3.example.com, bucket: E, access_key: env:S, secret_key: env:S}", "s3.bucket"},
		"a prefix with a slash": {"s3: {endpoint: https://s3.example.com, bucket: events, prefix: /x, access_key: env:S, secret_key: env:S}", "s3.prefix"},
		"no such format":        {"s3: {endpoint: https://s3.example.com, bucket: events, format: csv, access_key: env:S, secret_key: env:S}", "s3.format"},
		"gathered for too long": {"s3: {endpoint: https://s3.example.com, bucket: events, max_age: 5m, access_key: env:S, secret_key: env:S}", "s3.max_age"},
		"two kinds":             {"{sqlite: {path: x}, nats: {url: nats://a.example.com, prefix: orders}}", "exactly one kind"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeDestination(t, tt.text)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "pw") {
				t.Errorf("Decode() = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestHTTPDefaults(t *testing.T) {
	t.Parallel()
	d, err := decodeDestination(t, "http: {url: https://hooks.example.com, secrets: [env:S]}")
	if err != nil || d.HTTP.Timeout.String() != "15s" || d.HTTP.Concurrency != 8 || d.HTTP.Rate.Requests != 0 || d.HTTP.Order == pipeline.OrderRecord {
		t.Errorf("%+v, %v, want the documented defaults", d.HTTP, err)
	}
}
