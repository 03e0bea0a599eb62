package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// replica is one process of a service with its health address.
type replica struct {
	webhooks, health *url.URL
	ready            atomic.Bool // as the balancer last saw it
	stop             func() error
}

// replica starts one on the fixture's server.
func (f *fixture) replica(cfg ingress.Config) *replica {
	f.t.Helper()
	log := slog.New(slog.NewJSONHandler(f.log, nil))
	svc, err := ingress.New(cfg, ingress.Deps{Conn: f.conn, Log: log, Now: func() time.Time { return at }})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	health, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- boot.Group{
			Log: log, Services: map[string]boot.Service{"ingress": svc}, Metrics: http.NotFoundHandler(), Listen: "127.0.0.1:0",
			Started: func(addr string) { health <- addr },
		}.Run(ctx)
	}()
	r := &replica{stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	f.t.Cleanup(func() { _ = r.stop() })
	<-svc.Ready()
	r.webhooks, r.health = &url.URL{Scheme: "http", Host: svc.Addr()}, &url.URL{Scheme: "http", Host: <-health, Path: "/readyz"}
	return r
}

// balancer sends each request to the next replica that says it is ready, once.
type balancer struct {
	mu       sync.Mutex // guards those below
	replicas []*replica
	next     int
}

func (b *balancer) add(r *replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = append(b.replicas, r)
}

func (b *balancer) pick() *replica {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.replicas {
		b.next = (b.next + 1) % len(b.replicas)
		if r := b.replicas[b.next]; r.ready.Load() {
			return r
		}
	}
	return nil
}

// probe asks the replica every 10 ms whether it is ready, until ctx ends.
func (r *replica) probe(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		resp, err := http.Get(r.health.String())
		if err == nil {
			_ = resp.Body.Close()
		}
		r.ready.Store(err == nil && resp.StatusCode == http.StatusOK)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := b.pick()
	if to == nil {
		http.Error(w, "no replica is ready", http.StatusBadGateway)
		return
	}
	proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to.webhooks) }}
	proxy.ServeHTTP(w, r)
}

// Promise 1 in a rolling restart: replicas behind a balancer that looks at
// their readiness are replaced one by one, and no request is turned away.
func TestRollingRestartDropsNoRequest(t *testing.T) {
	t.Parallel()
	var cfg ingress.Config
	f := setup(t, func(c *ingress.Config) {
		c.DrainGrace = 500 * time.Millisecond
		cfg = *c
	})
	b := &balancer{}
	start := func() *replica {
		r := f.replica(cfg)
		go r.probe(t.Context())
		eventually(t, "the balancer has seen the replica", r.ready.Load)
		b.add(r)
		return r
	}
	old := []*replica{start(), start()}
	front := httptest.NewServer(b)
	t.Cleanup(front.Close)

	var sent, refused atomic.Int64
	done := make(chan struct{})
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := f.post(front.URL, fmt.Sprint("d-", sent.Add(1))); err != nil {
					refused.Add(1)
					t.Errorf("a request was dropped: %v", err)
				}
			}
		})
	}
	for _, r := range old {
		start()
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	close(done)
	senders.Wait()
	if got, want := f.stored(), uint64(sent.Load()-refused.Load()); got != want || want < 20 {
		t.Errorf("%d messages stored of %d answered 200, want as many and at least 20", got, want)
	}
}

func (f *fixture) post(base, id string) error {
	d := f.delivery("orders", id, `{"kind":"order.paid","id":"`+id+`"}`)
	req, err := http.NewRequest(d.method, base+d.path, bytes.NewReader([]byte(d.body)))
	if err != nil {
		return err
	}
	req.Header = d.header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// Within the grace a service isn't ready and serves; its connections end with
// their answers.
func TestGraceServesWithoutBeingReady(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.DrainGrace = time.Second })
	stop := f.run()
	w := f.dial()
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	eventually(t, "not ready", func() bool { return f.service.Healthy(t.Context()) != nil })
	w.write(string(f.delivery("orders", "d", goodBody).raw()))
	if r := w.answer(); r.StatusCode != http.StatusOK || !r.Close {
		t.Errorf("within the grace: answered %s, close %t, want 200 and a close", r.Status, r.Close)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}
