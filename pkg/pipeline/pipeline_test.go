package pipeline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

func env(name string) (string, bool) {
	v, ok := map[string]string{
		"ORDERS_SECRET": "a secret of enough length", "ORDERS_TOKEN": "token", "STRIPE_WEBHOOK_SECRET": "whsec_0123456789abcdef",
		"GITHUB_SECRET": "another secret, long enough",
	}[name]
	return v, ok
}

func decode(text string) (*pipeline.File, error) {
	return pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(env))
}

const whole = `
sources:
  stripe:
    preset: stripe
    secrets: [env:STRIPE_WEBHOOK_SECRET]
  hub:
    preset: github
    secrets: [env:GITHUB_SECRET]
    api: {token: env:ORDERS_TOKEN}
    resources: [issue]
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:ORDERS_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    accounts: [north, south]
    limit: {requests: 100}
    api: {base: "https://orders.example.com", token: env:ORDERS_TOKEN, rate: {requests: 50, per: 1s}, concurrency: 4}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        related: {customer: "/customers/{record.customer_id}", notes: {get: "/orders/{id}/notes", optional: true}}
        version: record.updated_at
        reconcile: {every: 30m, list: /orders, since: updated_after, order: ascending, items: orders, next: cursor, overlap: 5m}
destinations:
  warehouse: {sqlite: {path: warehouse.db}, subscribe: ["orders.>", "stripe.*.invoice.>"]}
  archive: {files: {dir: archive}}
streams: {dedup_window: 10m, raw: {max_age: 2d, max_bytes: 1GiB}}
`

func TestFileIsReadOverPresetsAndDefaults(t *testing.T) {
	t.Parallel()
	f, err := decode(whole)
	if err != nil {
		t.Fatal(err)
	}
	orders, stripe, hub := f.Sources["orders"], f.Sources["stripe"], f.Sources["hub"]
	checks := map[string]bool{
		"the preset's scheme is there":        stripe.Verify.Header == "Stripe-Signature" && stripe.Verifier() != nil && len(stripe.Keys()) == 1,
		"an id in the body is signed":         stripe.IDSigned(),
		"an id in a bare header isn't":        !orders.IDSigned() && !hub.IDSigned(),
		"the file's scheme is there":          orders.Verify.Timestamp == "X-Timestamp",
		"the preset's base and the token":     hub.API.Base == "https://api.github.com" && hub.API.Token.Reveal() == "token",
		"a resource by name":                  hub.Resources["issue"].Matches("issues.opened") && !hub.Resources["issue"].Matches("push"),
		"no resources unless asked for":       len(stripe.Resources) == 0,
		"api defaults":                        orders.API.Timeout == 20*time.Second && orders.API.Concurrency == 4,
		"limit default":                       orders.Limit.Per == time.Second,
		"related short and long form":         orders.Resources["order"].Related["notes"].Optional && !orders.Resources["order"].Related["customer"].Optional,
		"reconcile defaults":                  orders.Resources["order"].Reconcile.Settle == 2*time.Minute && orders.Resources["order"].Reconcile.Overlap == 5*time.Minute,
		"next short form":                     orders.Resources["order"].Reconcile.Next.Param == "cursor",
		"accounts":                            len(orders.AccountNames()) == 2 && stripe.AccountNames()[0] == "_",
		"destination subjects":                f.Destinations["warehouse"].Subscribe[0] == "orders.>" && f.Destinations["archive"].Subscribe[0] == ">",
		"stream settings over their defaults": f.Streams.Raw.MaxAge == 48*time.Hour && f.Streams.Enriched.MaxAge == 7*24*time.Hour,
		"JSON is needed":                      orders.NeedsJSON(),
	}
	for what, ok := range checks {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
}

// Promise 3: the dead letters of a destination that can't be opened come late, and the
// stream is to keep the events for as long.
func TestGivingUpLeavesRoomBeforeTheStreamLetsGo(t *testing.T) {
	t.Parallel()
	for settings, fits := range map[string]bool{
		"{give_up_after: 16h, retry_max: 29m}": true, // at most an hour and 58 minutes late
		"{give_up_after: 16h, retry_max: 31m}": false,
		"{give_up_after: 17h, retry_max: 1s}":  false,
	} {
		_, err := decode(strings.Replace(whole, "streams: {", "streams: {enriched: {max_age: 18h}, ", 1) + "sink: " + settings + "\n")
		if err != nil && !strings.Contains(err.Error(), "sink.give_up_after") || (err == nil) != fits {
			t.Errorf("%s with 18h in the stream: %v, want that it fits: %t", settings, err, fits)
		}
	}
}

// Who can change a list of origins on its way decides who may send.
func TestAListOfOriginsIsEncryptedOnItsWay(t *testing.T) {
	t.Parallel()
	for list, ok := range map[string]bool{
		`{url: "https://192.0.2.1/meta"}`: true, `{url: "http://192.0.2.1/meta"}`: false, `{url: "http://127.0.0.1/meta"}`: false,
		`{url: "http://127.0.0.1/meta", allow_private: true}`: true, `{url: "ftp://127.0.0.1/meta", allow_private: true}`: false,
	} {
		_, err := decode(strings.Replace(whole, "  stripe:", "  listed: {preset: stripe, secrets: [env:STRIPE_WEBHOOK_SECRET], origin: {list: "+list+"}}\n  stripe:", 1))
		if err != nil && !strings.Contains(err.Error(), "origin.list.url") || (err == nil) != ok {
			t.Errorf("%s: %v, want ok %t", list, err, ok)
		}
	}
}

func TestEveryFaultIsReportedAtOnceWithItsPlace(t *testing.T) {
	t.Parallel()
	_, err := decode(`
sources:
  stripe:
    preset: strip
    secrets: [env:STRIPE_WEBHOOK_SECRET]
  hub:
    preset: github
    secrets: [env:NO_SUCH]
    resources: [isue]
  orders:
    verify: {scheme: hmac-sha257, header: X-Signature}
    secrets: [whsec_literal]
    event: {id: header.X-Delivery, type: boody.kind}
    api: {base: "http://orders.example.com", tokn: env:ORDERS_TOKEN}
    resources:
      order: {triggers: [order.*], id: body.order.id, get: orders, reconcile: {every: 1 hour, list: /orders, order: rising}}
  stripe:
    preset: stripe
destinations:
  w: {sqlite: {path: w.db}, files: {dir: d}}
  x: {files: {dir: d}, subscribe: ["a.>", "a.*.b"]}
streams: {replicas: 2}
enricher: {batch: 10}
`)
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("Decode() = %v, want config.Faults", err)
	}
	text := err.Error()
	t.Log("\n" + text)
	for _, want := range []string{
		`did you mean "stripe"?`, `NO_SUCH`, `did you mean "issue"?`, `did you mean "hmac-sha256"?`, `sources.orders.secrets`,
		`sources.orders.event.type`, `sources.orders.api.base`, `did you mean "token"?`, `sources.orders.resources.order.get`,
		`sources.orders.resources.order.version`, `sources.orders.resources.order.reconcile.every`, `did you mean`, `destinations.w`, `destinations.x.subscribe`, `streams.replicas`, `enricher.batch`,
		`tercel.yaml:4:`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the faults don't mention %s", want)
		}
	}
	if strings.Contains(text, "whsec_literal") {
		t.Error("a fault quotes a secret")
	}
	if len(faults) < 15 {
		t.Errorf("%d faults, want all of them at once", len(faults))
	}
}

// What is wrong with an address is said without the address: a password may be
// part of it (promise 9).
func TestAddressesAreCheckedAndNotQuoted(t *testing.T) {
	t.Parallel()
	const source = "sources: {hub: {preset: github, secrets: [env:GITHUB_SECRET], api: {base: %q}}}\nnats: {url: %q}\ntelemetry: {otlp: %q}\n"
	const base, nats, otlp = "https://api.example.com", "nats://127.0.0.1:4222", "http://127.0.0.1:4318"
	for name, tt := range map[string]struct{ base, nats, otlp, want string }{
		"all good":                    {base, nats, otlp, ""},
		"several servers, and a user": {base, "nats://u:planted@a:4222, tls://b,c:4222", otlp, ""},
		"a bad escape in a server":    {base, "nats://u:planted%zz@h:4222", otlp, "nats.url"},
		"a slash in a password":       {base, "nats://u:planted/x@h:4222", otlp, "nats.url"},
		"a bad second server":         {base, "nats://a:4222,nats://", otlp, "nats.url"},
		"no collector":                {base, nats, "planted:4318/x", "telemetry.otlp"},
		"a collector with a user":     {base, nats, "http://u:planted@h:4318", "OTEL_EXPORTER_OTLP_HEADERS"},
		"a collector with a bad port": {base, nats, "http://u:planted@h:4318%zz", "telemetry.otlp"},
		"an API with a bad escape":    {"https://u:planted%zz@h", nats, otlp, "api.base"},
		"an API with a user":          {"https://u:planted@h", nats, otlp, "api.base"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(fmt.Sprintf(source, tt.base, tt.nats, tt.otlp))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Decode() = %v, want an error about %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the fault quotes the address: %v", err)
			}
		})
	}
}

func ExampleDecode() {
	_, err := pipeline.Decode("tercel.yaml", []byte("sources:\n  hub:\n    preset: github\n    secrets: [env:S]\nstreams: {durability: sync}\n"),
		config.WithLookupEnv(func(string) (string, bool) { return "a secret, long enough", true }))
	fmt.Println(err)
	// Output: tercel.yaml:5:23: streams.durability: found "sync", want one of synced, relaxed; did you mean "synced"?
}
