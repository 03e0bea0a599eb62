package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
)

var buildStripeMock = sync.OnceValue(func() error {
	cmd := exec.Command("go", "-C", "../../scripts/tools", "build", "-o", filepath.Join(binDir, "stripe-mock"), "github.com/stripe/stripe-mock")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build stripe-mock: %w\n%s", err, out)
	}
	return nil
})

// startStripe runs Stripe's own stand-in for its API, which refuses requests that
// the API's description doesn't have, and returns its address.
func startStripe(t *testing.T) string {
	t.Helper()
	if err := buildStripeMock(); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	(&process{
		t: t, name: filepath.Join(binDir, "stripe-mock"), args: []string{"-http-addr", addr},
		ready: func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/balance", nil)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+stripeToken)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		},
	}).start()
	return "http://" + addr
}

const stripeToken = "sk_test_fortestsoftercel"

// Every resource of the Stripe preset, with what belongs to it, is had from
// Stripe's own stand-in for its API.
func TestStripePreset(t *testing.T) {
	t.Parallel()
	preset, _ := provider.LookupPreset("stripe")
	names := slices.Sorted(maps.Keys(preset.Resources))
	var recorded struct {
		Resources map[string]struct {
			Type    string
			Trigger json.RawMessage
			ID      string
		}
	}
	data, err := os.ReadFile("../../pkg/provider/testdata/resources/stripe.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	file, err := pipeline.Decode("tercel.yaml", fmt.Appendf(nil, `
sources:
  stripe:
    preset: stripe
    secrets: [env:SECRET]
    api: {base: %q, allow_private: true, token: env:TOKEN}
    resources: [%s]
`, startStripe(t), strings.Join(names, ", ")), config.WithLookupEnv(func(string) (string, bool) { return stripeToken, true }))
	if err != nil {
		t.Fatal(err)
	}
	js := runEnricher(t, file)
	for _, name := range names {
		rec := recorded.Resources[name]
		e := event.Event{
			ID: "evt_" + name, Source: "stripe", Account: event.NoAccount, Type: rec.Type, Origin: event.Webhook,
			ContentType: "application/json", ReceivedAt: time.Now(),
		}
		m := nats.NewMsg(e.RawSubject())
		m.Header, m.Data = e.Header(), rec.Trigger
		m.Header.Set(jetstream.MsgIDHeader, e.MsgID())
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]bool{}
	for _, m := range enrichedEvents(t, js, len(names)) {
		e, err := event.FromHeader(m.Headers())
		if err != nil {
			t.Fatal(err)
		}
		body, err := event.DecodeBody(m.Data())
		if err != nil {
			t.Fatal(err)
		}
		found[e.Resource] = true
		var record struct{ ID, Object string }
		if err := json.Unmarshal(body.Record, &record); err != nil || record.ID != recorded.Resources[e.Resource].ID || record.Object != e.Resource ||
			!strings.HasPrefix(string(e.Version), "h") || e.Deleted {
			t.Errorf("%s: record %s of object %s in version %s, %v", e.Resource, record.ID, record.Object, e.Version, err)
		}
		for related := range preset.Resources[e.Resource].Related {
			if !strings.Contains(string(body.Related[related]), `"object":"`+related+`"`) {
				t.Errorf("%s: related %s is %s", e.Resource, related, body.Related[related])
			}
		}
	}
	if len(found) != len(names) {
		t.Errorf("events of %v, want one of each of %v", slices.Sorted(maps.Keys(found)), names)
	}
}

// runEnricher runs an enricher over a server of its own until the test ends.
func runEnricher(t *testing.T, file *pipeline.File) jetstream.JetStream {
	t.Helper()
	nc := natstest.Start(t, false).Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	cfg := consume.DefaultConfig()
	cfg.Batch = 1
	s, err := enricher.New(enricher.Config{Config: cfg, Sources: file.Sources, Streams: file.Streams},
		enricher.Deps{Conn: nc, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("enricher: %v", err)
		}
	})
	return js
}

// enrichedEvents waits for so many events.
func enrichedEvents(t *testing.T, js jetstream.JetStream, n int) []jetstream.Msg {
	t.Helper()
	c, err := js.OrderedConsumer(t.Context(), topology.StreamEnriched, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var all []jetstream.Msg
	for len(all) < n {
		m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
		if err != nil {
			t.Fatalf("%d of %d events: %v", len(all), n, err)
		}
		all = append(all, m)
	}
	return all
}
