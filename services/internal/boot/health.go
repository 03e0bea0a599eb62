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

// health serves /livez, /readyz and /metrics.
type health struct{ services map[string]Service }

// serveHealth listens on addr until stop is called and returns where.
func serveHealth(addr string, services map[string]Service, metrics http.Handler) (bound string, stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("listen for health and metrics: %w; choose another address with telemetry.listen", err)
	}
	h := health{services}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", metrics)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener was lost: the orchestrator must restart us
		}
	}()
	return l.Addr().String(), func() { _ = srv.Close(); <-done }, nil
}

// ready answers 200 when every service can do its work, else 503 and why not.
func (h health) ready(w http.ResponseWriter, r *http.Request) {
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
