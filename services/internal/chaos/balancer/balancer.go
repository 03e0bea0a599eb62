// Package balancer is a load balancer to test with: it hands requests to those of
// its backends that say that they are ready.
package balancer

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Of asking a backend whether it is ready: how often, and how long its answer may
// take.
const (
	every   = 50 * time.Millisecond
	timeout = 2 * time.Second
)

// Balancer listens on loopback. It is safe for concurrent use. Use [Start], and
// close it.
type Balancer struct {
	srv    *httptest.Server
	failed atomic.Int64

	asking sync.WaitGroup
	ctx    context.Context // of those who ask backends
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows
	ready []string   // addresses
	next  int
}

// Start returns a balancer without backends, which answers 502.
func Start() *Balancer {
	b := &Balancer{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.srv = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: b.choose()}) },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second,
		},
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode >= http.StatusInternalServerError {
				b.failed.Add(1)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			b.failed.Add(1)
			w.WriteHeader(http.StatusBadGateway)
		},
	})
	return b
}

// URL is where the balancer takes requests.
func (b *Balancer) URL() string { return b.srv.URL }

// Failed counts the answers that were a server's fault, or no answers.
func (b *Balancer) Failed() int64 { return b.failed.Load() }

// Close ends the balancer.
func (b *Balancer) Close() {
	b.cancel()
	b.asking.Wait()
	b.srv.CloseClientConnections() // a request to what stands still has no end
	b.srv.Close()
}

// Add begins to ask a backend at addr whether it is ready, and returns after the
// first answer.
func (b *Balancer) Add(addr string, ready func(context.Context) error) {
	b.ask(addr, ready)
	b.asking.Go(func() {
		for {
			select {
			case <-time.After(every):
				b.ask(addr, ready)
			case <-b.ctx.Done():
				return
			}
		}
	})
}

func (b *Balancer) ask(addr string, ready func(context.Context) error) {
	ctx, cancel := context.WithTimeout(b.ctx, timeout)
	defer cancel()
	b.set(addr, ready(ctx) == nil)
}

func (b *Balancer) set(addr string, ready bool) {
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

func (b *Balancer) choose() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return "127.0.0.1:0"
	}
	b.next++
	return b.ready[b.next%len(b.ready)]
}
