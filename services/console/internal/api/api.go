// Package api is the admin API: the services of proto/tercel/admin/v1 over a
// running pipeline. It keeps nothing itself; what it tells comes from the
// streams, and what it does goes through the same packages as the services'.
//
// A call passes, in this order: the token and the role that its method wants
// (auth.go), the form of its message (interceptor.go), for an operator's method
// the record in TERCEL_AUDIT that it begins (audit.go), and the method itself.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// Config is what the API knows of the pipeline file.
type Config struct {
	// Sources and Destinations are those of the file, by name.
	Sources      map[string]provider.Source
	Destinations map[string]pipeline.Destination
	// Redact is what of payloads isn't shown, by source.
	Redact redact.Set
	// Version is the program's.
	Version string
}

// Deps are what an [API] borrows and never closes.
type Deps struct {
	Conn *nats.Conn
	Log  *slog.Logger
	// Gate knows who may call.
	Gate *access.Gate
	// Index finds messages. Somebody else runs it.
	Index *timeline.Index
	// Now tells the time of plans and windows. Defaults to time.Now.
	Now func() time.Time
}

// API is the admin API. It is safe for concurrent use.
type API struct {
	cfg     Config
	deps    Deps
	js      jetstream.JetStream
	methods map[string]method // by procedure: "/package.Service/Method"
	calls   *calls
	groups  *groupings
	streams chan struct{}   // one place for each stream that is open
	ending  context.Context // ends when streams are to end
	end     context.CancelFunc
	mux     *http.ServeMux
	errors  *connect.ErrorWriter
}

// Bounds of calls.
const (
	// MaxRequestBytes is the largest message that is read: a patch and a little.
	MaxRequestBytes = 2 << 20
	// maxStreams bounds the live tails and replays that are open at once.
	maxStreams = 64
	// unaryTimeout bounds every other call.
	unaryTimeout = 30 * time.Second
)

// New returns the API.
func New(cfg Config, deps Deps) (*API, error) {
	if deps.Conn == nil || deps.Log == nil || deps.Gate == nil || deps.Index == nil {
		return nil, errors.New("admin api: no connection, log, gate or index")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	js, err := jetstream.New(deps.Conn)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	a := &API{cfg: cfg, deps: deps, js: js, streams: make(chan struct{}, maxStreams), mux: http.NewServeMux()}
	a.ending, a.end = context.WithCancel(context.Background())
	a.groups = newGroupings(a.ending, js, deps.Now)
	if a.methods, err = methods(); err != nil {
		return nil, err
	}
	if a.calls, err = newCalls(); err != nil {
		return nil, err
	}
	options := []connect.HandlerOption{
		connect.WithInterceptors(interceptor{a}), connect.WithReadMaxBytes(MaxRequestBytes),
		connect.WithCodec(strictJSON{"json"}), connect.WithCodec(strictJSON{"json; charset=utf-8"}),
		connect.WithRecover(a.recovered),
	}
	a.errors = connect.NewErrorWriter(options...)
	a.mux.Handle(adminv1connect.NewEventServiceHandler(events{a}, options...))
	a.mux.Handle(adminv1connect.NewDeadLetterServiceHandler(deadLetters{a}, options...))
	a.mux.Handle(adminv1connect.NewReconciliationServiceHandler(reconciliations{a}, options...))
	a.mux.Handle(adminv1connect.NewSourceServiceHandler(sources{a}, options...))
	a.mux.Handle(adminv1connect.NewBackfillServiceHandler(backfills{a}, options...))
	a.mux.Handle(adminv1connect.NewDestinationServiceHandler(destinations{a}, options...))
	a.mux.Handle(adminv1connect.NewPipelineServiceHandler(pipelines{a}, options...))
	return a, nil
}

// Handler answers calls of whoever has a token. It bounds a call's size, the
// time of all but streams, and what a slow reader may take; reading a request is
// for the server around it to bound.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// EndStreams ends all streams that are open, and those that are begun later.
// Whoever follows one begins it again with another console.
func (a *API) EndStreams() { a.end() }
