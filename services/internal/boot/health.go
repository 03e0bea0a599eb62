package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Metrics serves the process's metrics.
type Metrics = http.Handler

// health serves /livez, /readyz and /metrics.
type health struct {
	services map[string]Service
	metrics  Metrics
	addr     string
}

func newHealth(services map[string]Service, metrics Metrics) *health {
	return &health{services: services, metrics: metrics}
}

// serve listens on addr until the returned function is called.
func (h *health) serve(addr string) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for health and metrics: %w; choose another address with telemetry.listen", err)
	}
	h.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", h.metrics)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener was lost: the orchestrator must restart us
		}
	}()
	return func() { _ = srv.Close(); <-done }, nil
}

// ready answers 200 when every service can do its work, else 503 and why not.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	status, answer := http.StatusOK, map[string]string{}
	for name, s := range h.services {
		answer[name] = "ready"
		if err := s.Healthy(ctx); err != nil {
			status, answer[name] = http.StatusServiceUnavailable, err.Error()
		}
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
