package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/proof"
)

// Every service is replaced under load as a rolling upgrade does it: a new one
// starts beside the old one, which is asked to end once the new one is ready. No
// webhook is answered with an error meanwhile, nothing is lost and nothing doubled.
func TestRollingUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	provider, api := startProvider(t)
	provider.Heal() // what can't be fetched is another test's
	dir := t.TempDir()
	db, secrets := filepath.Join(dir, "orders.db"), []string{"ORDERS_SECRET=" + orderSecret, "ORDERS_TOKEN=" + orderToken}
	config := func(name, in string) string {
		file := filepath.Join(dir, name)
		text := fmt.Sprintf(orderConfig, api, db, filepath.Join(dir, "archive-"+name), in, freePort(t))
		// Long enough that the balancer notices, which a loaded machine delays.
		write(t, file, strings.Replace(text, "drain_grace: 0s", "drain_grace: 5s", 1))
		return file
	}
	in, newIn := freePort(t), freePort(t)
	d := startApart(t, config("old.yaml", in), in, secrets)
	b := startBalancer(t)
	b.add(in, healthOf(d.parts["ingress"]))

	ran := make(chan error, 1)
	go func() { ran <- provider.Run(t.Context(), b.url+"/v1/orders") }()
	newConfig := config("new.yaml", newIn)
	for _, name := range stages {
		old, health := d.parts[name], freePort(t)
		d.parts[name] = &process{
			t: t, name: old.name, ready: answers("http://" + health + "/readyz"), env: secrets,
			args: []string{"--config", newConfig, "--nats", d.natsURL(), "--health", health},
		}
		d.parts[name].start()
		if name == "ingress" {
			b.add(newIn, health)
		}
		old.stop()
		t.Logf("%s was replaced", name)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	destination, err := proof.Open(db, "orders", "order")
	if err != nil {
		t.Fatal(err)
	}
	defer destination.Close()
	eventually(t, 2*time.Minute, "everything is delivered", func() error {
		return complete(t.Context(), provider, destination, true)
	})
	if v := verdict(t, provider, destination); len(v.Doubled) > 0 || len(v.Refused) > 0 {
		t.Errorf("doubled %v, forged %v; want none", v.Doubled, v.Refused)
	}
	if n := b.failed.Load(); n > 0 {
		t.Errorf("%d webhooks were answered with an error of the server, want none", n)
	}
	t.Logf("%+v", provider.Book().Counts())
}

// healthOf is the address at which a process tells of its health.
func healthOf(p *process) string { return p.args[slices.Index(p.args, "--health")+1] }

// balancer hands requests to those backends that say that they are ready.
type balancer struct {
	t      *testing.T
	url    string
	failed atomic.Int64 // answers that are the server's fault

	mu    sync.Mutex // guards what follows
	ready []string   // addresses
	next  int
}

func startBalancer(t *testing.T) *balancer {
	b := &balancer{t: t}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: b.choose()}) },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode >= 500 {
				b.failed.Add(1)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			t.Logf("a request did not get through: %v", err)
			b.failed.Add(1)
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	b.url = srv.URL
	return b
}

func (b *balancer) choose() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return "127.0.0.1:0"
	}
	b.next++
	return b.ready[b.next%len(b.ready)]
}

// add begins to ask a backend for its health, until the test ends.
func (b *balancer) add(addr, health string) {
	ctx, cancel := context.WithCancel(context.Background())
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for ask := answers("http://" + health + "/readyz"); ctx.Err() == nil; {
			b.set(addr, ask() == nil)
			select {
			case <-first:
			default:
				close(first)
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
	<-first
}

func (b *balancer) set(addr string, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.ready, addr)
	switch {
	case ready && i < 0:
		b.ready = append(b.ready, addr)
	case !ready && i >= 0:
		b.ready = slices.Delete(b.ready, i, i+1)
	}
}
