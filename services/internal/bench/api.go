package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// serveAPI serves records at /LATENCY/orders/ID, and takes deliveries at
// /LATENCY/hook, of which it tells at /taken how many it has had.
func serveAPI(ctx context.Context, p part) error {
	mux := http.NewServeMux()
	var d deliveries
	mux.HandleFunc("GET /{latency}/orders/{id}", after(func(w http.ResponseWriter, r *http.Request) {
		s := newSender(nil, nil)
		s.writeBody(r.PathValue("id"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"updated_at":"2026-01-02T15:04:05Z",%s`, s.body.Bytes()[1:])
	}))
	mux.HandleFunc("POST /{latency}/hook", after(d.take))
	mux.HandleFunc("GET /taken", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, _ = fmt.Fprint(w, d.all, len(d.ids))
	})
	srv := &http.Server{Addr: p.Listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// after has a handler answer after the latency of its path.
func after(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		latency, err := time.ParseDuration(r.PathValue("latency"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		time.Sleep(latency)
		h(w, r)
	}
}

// deliveries counts what was delivered.
type deliveries struct {
	mu  sync.Mutex // guards those below
	all int
	ids map[string]bool
}

func (d *deliveries) take(_ http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = map[string]bool{}
	}
	d.all++
	d.ids[r.Header.Get("webhook-id")] = true
}

// startAPI starts the API as a process of its own, and returns where it is.
func (s *stand) startAPI(ctx context.Context) (p proc, base string, err error) {
	p, err = s.child(ctx, "api", part{})
	return p, "http://" + p.addr, err
}
