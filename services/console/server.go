package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/blame"
	"github.com/tercelhq/tercel/services/internal/lobby"
)

// Bounds of a connection. What an answer may take is bounded by the API, since
// some of its answers are streams.
const (
	readTimeout = 10 * time.Second
	// idleTimeout is also how long a connection of HTTP/2 that has ended may be kept,
	// with all that waited in it: the runtime holds stopped timers until they are due.
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 32 << 10
	maxConns       = 512
	maxCalls       = 100 // of one connection at once, over HTTP/2
	drainTimeout   = 10 * time.Second
)

// Run serves until ctx ends; then it takes no more connections, ends streams,
// lets other calls finish and returns nil. An error means that it couldn't
// listen, or that its index can't be kept.
func (s *Service) Run(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for the console: %w; choose another address with console.listen", err)
	}
	// Calls outlive the end of ctx, but streams would never end by themselves.
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	srv := s.newServer(calls)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.index.Run(ctx) })
	group.Go(func() error { s.gate.Keep(ctx); return nil })
	group.Go(func() error { s.tls.Keep(ctx, s.deps.Log); return nil })
	var serving sync.WaitGroup
	ended := make(chan error, 1)
	conns := s.conns(ln, srv)
	serving.Go(func() { ended <- srv.Serve(conns) })
	s.listening(ctx, ln.Addr().String())
	group.Go(func() error {
		select {
		case err := <-ended:
			return fmt.Errorf("serve the console: %w", err)
		case <-ctx.Done():
		}
		s.drain(ctx, srv, endCalls)
		serving.Wait()
		return nil
	})
	return group.Wait()
}

// conns are the connections that come to ln, bounded and, where that is set,
// encrypted.
func (s *Service) conns(ln net.Listener, srv *http.Server) net.Listener {
	room := lobby.New(ln, maxConns)
	srv.ConnState = room.Follow
	if s.tls != nil {
		return s.tls.Listener(room)
	}
	return blame.Listener(room, srv.ErrorLog)
}

// listening tells where, and what to know about it.
func (s *Service) listening(ctx context.Context, addr string) {
	s.mu.Lock()
	s.addr = addr
	s.mu.Unlock()
	close(s.ready)
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "listening for operators", slog.String("addr", addr), slog.Bool("tls", s.tls != nil),
		slog.Int("tokens", len(s.cfg.Tokens)))
	if s.tls == nil && !s.cfg.Loopback() {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "tokens travel in plain text unless a TLS proxy is in front; set console.tls", slog.String("addr", addr))
	}
}

// drain lets calls in hand finish. Streams are ended at once: whoever follows
// one begins it again elsewhere.
func (s *Service) drain(ctx context.Context, srv *http.Server, endCalls func()) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	s.api.EndStreams()
	s.pages.Close()
	if err := srv.Shutdown(bounded); err != nil {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "calls cut off at the end", slog.Any("err", err))
	}
	endCalls()
	_ = srv.Close()
	s.mu.Lock()
	s.addr = ""
	s.mu.Unlock()
}

// newServer bounds every phase of a connection. gRPC needs HTTP/2, which without
// TLS clients speak unasked.
func (s *Service) newServer(ctx context.Context) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           s.handler(),
		Protocols:         protocols,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxCalls},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          blame.Log(s.deps.Log),

		DisableGeneralOptionsHandler: true,
	}
}

// handler is all that the console serves.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.pages.Handler())
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(adminv1connect.OpenAPI()) // a caller that has gone has gone
	})
	calls := s.api.Handler()
	return s.gate.Guard(headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, "/tercel.admin."):
			mux.ServeHTTP(w, r)
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "calls are POST requests", http.StatusMethodNotAllowed)
		case !decodes(r.Header.Get("Content-Encoding")):
			w.Header().Set("Accept-Encoding", "gzip")
			http.Error(w, "messages are compressed with gzip or not at all", http.StatusUnsupportedMediaType)
		default:
			r.Body = message{r.Body}
			calls.ServeHTTP(w, r)
		}
	})))
}

// message is the body of a call. One that comes too slowly is its caller's fault, while
// a deadline that has passed would be ours.
type message struct{ io.ReadCloser }

func (m message) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = connect.NewError(connect.CodeInvalidArgument, errors.New("the message did not come within "+readTimeout.String()))
	}
	return n, err
}

// decodes reports whether calls may be compressed so. The API's own answer to
// others would be a fault of the server's.
func decodes(encoding string) bool {
	return encoding == "" || encoding == "gzip" || encoding == "identity"
}

// headers are on every answer.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
