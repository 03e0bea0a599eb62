package e2e_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

const (
	orderSecret = "the orders' webhook secret"
	orderToken  = "the orders' API token"
)

// orderConfig is the pipeline of a simulated provider: API, database, ingress
// and health addresses are filled in.
const orderConfig = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:ORDERS_SECRET]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
    api: {base: %q, token: env:ORDERS_TOKEN, allow_private: true}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        related: {customer: "/customers/{record.customer_id}"}
        version: record.updated_at
        reconcile:
          list: /orders
          since: updated_after
          order: ascending
          items: orders
          next: {cursor: next_cursor, param: cursor}
          limit: {param: limit, size: 100}
          every: 2s
          settle: 1s
          overlap: 5s
destinations:
  database: {sqlite: {path: %q}}
  archive: {files: {dir: %q}}
ingress: {listen: %q, drain_grace: 0s}
console: {listen: "127.0.0.1:0"}
enricher: {max_attempts: 20, retry_min: 100ms, retry_max: 1s, ack_wait: 5s}
sink: {retry_min: 100ms, retry_max: 1s, ack_wait: 5s}
reconciler: {lease_ttl: 3s, repair_rate: 1000, audit_every: 2s, audit_settle: 30s, catch_up: 10s, collect: {ack_wait: 5s}}
telemetry: {listen: %q}
`

// Every process is killed once while the provider changes records and sends
// webhooks, and nothing is lost: neither when the services run apart nor when
// they are one process. (Promises 1, 3, 4, 6 and 7.)
func TestNothingIsLostWhileEveryProcessIsKilled(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, string, string, string, []string) *deployment{
		"apart":    func(t *testing.T, file, in, _ string, env []string) *deployment { return startApart(t, file, in, env) },
		"together": startTogether,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, api := startProvider(t)
			dir := t.TempDir()
			file, db, in, health := filepath.Join(dir, "tercel.yaml"), filepath.Join(dir, "orders.db"), freeAddr(t), freeAddr(t)
			write(t, file, fmt.Sprintf(orderConfig, api, db, filepath.Join(dir, "archive"), in, health))
			secrets := []string{"ORDERS_SECRET=" + orderSecret, "ORDERS_TOKEN=" + orderToken}
			d := start(t, file, in, health, secrets)

			ran := make(chan error, 1)
			go func() { ran <- provider.Run(t.Context(), d.ingress+"/v1/orders") }()
			d.killEach(t, time.Second)
			if err := <-ran; err != nil {
				t.Fatal(err)
			}
			destination, err := proof.Open(db, "orders", "order")
			if err != nil {
				t.Fatal(err)
			}
			defer destination.Close()
			eventually(t, 2*time.Minute, "everything but what can't be fetched is delivered", func() error {
				return complete(t.Context(), provider, destination, false)
			})

			provider.Heal()
			js := d.jetStream(t)
			eventually(t, 2*time.Minute, "what could not be fetched is delivered after a replay", func() error {
				if err := replayAll(t.Context(), js); err != nil {
					return err
				}
				return complete(t.Context(), provider, destination, true)
			})
			v := verdict(t, provider, destination)
			if len(v.Doubled) > 0 || len(v.Refused) > 0 || v.Repaired == 0 {
				t.Errorf("doubled %v, forged %v, %d repaired; want none, none and some", v.Doubled, v.Refused, v.Repaired)
			}
			t.Logf("%+v; %d repaired", provider.Book().Counts(), v.Repaired)
			checkContract(t, js, file, secrets)
			for _, p := range d.parts {
				p.stop()
			}
		})
	}
}

// killEach kills every process once, one after the other, and starts it again
// a moment later.
func (d *deployment) killEach(t *testing.T, pause time.Duration) {
	t.Helper()
	for name, p := range d.parts {
		wait(t, pause)
		p.kill()
		wait(t, pause/2)
		p.start()
		t.Logf("%s was killed and started again", name)
	}
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// startProvider serves the simulated provider's API and returns its base URL.
func startProvider(t *testing.T) (*simulator.Provider, string) {
	t.Helper()
	return startProviderOf(t, 1500)
}

func startProviderOf(t *testing.T, events int) (*simulator.Provider, string) {
	t.Helper()
	p, err := simulator.New(simulator.Config{
		Seed: 7, Events: events, Rate: 150, Drop: 0.1, Duplicate: 0.05, Reorder: 0.05, Forge: 0.02, Poison: 0.01, Delete: 0.02,
		Unavailable: 0.005, Secret: config.NewSecret(orderSecret), Token: config.NewSecret(orderToken),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return p, "http://" + l.Addr().String()
}

func complete(ctx context.Context, p *simulator.Provider, d *proof.Destination, healed bool) error {
	far, err := d.Read(ctx)
	if err != nil {
		return err
	}
	v := proof.Compare(p.Book(), p.Newest(), far, healed)
	if len(v.Lost)+len(v.Undelivered) > 0 {
		return fmt.Errorf("%d lost, such as %q; %d accepted but undelivered, such as %q", len(v.Lost), v.Lost[:min(3, len(v.Lost))],
			len(v.Undelivered), v.Undelivered[:min(3, len(v.Undelivered))])
	}
	return nil
}

func verdict(t *testing.T, p *simulator.Provider, d *proof.Destination) proof.Verdict {
	t.Helper()
	far, err := d.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return proof.Compare(p.Book(), p.Newest(), far, true)
}

func replayAll(ctx context.Context, js jetstream.JetStream) error {
	for l, err := range deadletter.List(ctx, js, deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}}) {
		if err != nil {
			return err
		}
		if _, err := deadletter.Replay(ctx, js, l.Sequence, deadletter.ReplayOptions{}); err != nil {
			return err
		}
	}
	return nil
}
