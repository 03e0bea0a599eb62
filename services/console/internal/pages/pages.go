// Package pages is what the console shows in a browser: HTML made by the server,
// which can be read without JavaScript, with a small script that keeps it live.
//
// A page knows no more than the admin API: it calls it in the same process in the
// name of its reader, so that roles, audit records and redaction hold for pages as
// for any other caller. Payloads are shown as text and nothing else. Nothing is
// loaded from other hosts.
package pages

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// Deps are what [Pages] borrows and never closes.
type Deps struct {
	// API takes calls of the admin API in the name of the caller that a context
	// has, see [access.With].
	API connect.HTTPClient
	// JetStream has the stream of audit records, for what the API has no method for.
	JetStream jetstream.JetStream
	// Gate knows who may sign in.
	Gate *access.Gate
	Log  *slog.Logger
	// Now tells the time of sessions and of what is shown. Defaults to time.Now.
	Now func() time.Time
	// Secure marks cookies for encrypted connections only.
	Secure bool
}

// Pages are the console's pages. It is safe for concurrent use.
type Pages struct {
	deps     Deps
	api      clients
	views    map[string]*template.Template
	sessions *sessions
	replays  *replays
	rates    *rates
	mux      *http.ServeMux
}

// New returns the pages. The error says that a template is broken.
func New(deps Deps) (*Pages, error) {
	if deps.API == nil || deps.JetStream == nil || deps.Gate == nil || deps.Log == nil {
		return nil, errors.New("console pages: no api, jetstream, gate or log")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	p := &Pages{deps: deps, sessions: newSessions(deps.Now), rates: &rates{now: deps.Now}, mux: http.NewServeMux()}
	p.api = newClients(deps.API)
	p.replays = newReplays(p.api, deps.Now)
	var err error
	if p.views, err = views(deps.Now); err != nil {
		return nil, fmt.Errorf("console pages: %w", err)
	}
	if err := p.route(); err != nil {
		return nil, fmt.Errorf("console pages: %w", err)
	}
	return p, nil
}

// Handler serves the pages.
func (p *Pages) Handler() http.Handler { return headers(p.mux) }

// Close ends the replays that were begun on a page and waits for them; what was
// sent stays sent.
func (p *Pages) Close() { p.replays.close() }

func (p *Pages) route() error {
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return err
	}
	p.mux.Handle("GET /static/", http.StripPrefix("/static/", cached(http.FileServerFS(static))))
	p.mux.HandleFunc("GET /sign-in", p.signInForm)
	p.mux.HandleFunc("POST /sign-in", p.signIn)
	p.mux.HandleFunc("POST /sign-out", p.signOut)
	for pattern, h := range map[string]func(*request) error{
		"GET /{$}":                               p.overview,
		"GET /events":                            p.events,
		"GET /events/tail":                       p.tail,
		"GET /events/tail/stream":                p.tailStream,
		"GET /events/one":                        p.event,
		"GET /dead-letters":                      p.groups,
		"GET /dead-letters/all":                  p.letters,
		"GET /dead-letters/groups/{fingerprint}": p.group,
		"GET /dead-letters/{sequence}":           p.letter,
		"POST /dead-letters/{sequence}/edit":     p.edit,
		"POST /dead-letters/plan":                p.plan,
		"POST /dead-letters/replay":              p.replay,
		"POST /dead-letters/discard":             p.discard,
		"GET /replays/{id}":                      p.progress,
		"POST /replays/{id}/stop":                p.stopReplay,
		"GET /reconciliation":                    p.reconciliation,
		"GET /reconciliation/{run}":              p.report,
		"POST /reconciliation/run":               p.runReconciliation,
		"POST /reconciliation/pause":             p.pauseReconciliation,
		"POST /reconciliation/resume":            p.resumeReconciliation,
		"GET /sources":                           p.sources,
		"GET /sources/refusals":                  p.refusals,
		"POST /sources/pause":                    p.pauseSource,
		"POST /sources/resume":                   p.resumeSource,
		"GET /audit":                             p.audit,
	} {
		p.mux.HandleFunc(pattern, p.signedIn(h))
	}
	return nil
}

// policy lets a page have what comes from here, and a browser do nothing else
// with it.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		next.ServeHTTP(w, r)
	})
}

// maxFormBytes is the largest form: a patch and a little.
const maxFormBytes = 2 << 20

// cached lets browsers keep what only changes with the program, for a while.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" { // there is no list of files
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "max-age=300")
		next.ServeHTTP(w, r)
	})
}

// clients are the services of the admin API.
type clients struct {
	events          adminv1connect.EventServiceClient
	deadLetters     adminv1connect.DeadLetterServiceClient
	reconciliations adminv1connect.ReconciliationServiceClient
	sources         adminv1connect.SourceServiceClient
	pipeline        adminv1connect.PipelineServiceClient
}

func newClients(api connect.HTTPClient) clients {
	const base = "http://console" // nothing is looked up
	return clients{
		events:          adminv1connect.NewEventServiceClient(api, base),
		deadLetters:     adminv1connect.NewDeadLetterServiceClient(api, base),
		reconciliations: adminv1connect.NewReconciliationServiceClient(api, base),
		sources:         adminv1connect.NewSourceServiceClient(api, base),
		pipeline:        adminv1connect.NewPipelineServiceClient(api, base),
	}
}

// request is a request of somebody who is signed in, whose context is good for
// calls of the admin API.
type request struct {
	*http.Request
	w      http.ResponseWriter
	p      *Pages
	caller access.Caller
}

// signedIn has a handler answer those who are signed in, and others sign in. An
// error of the handler becomes a page that says so.
func (p *Pages) signedIn(h func(*request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, hr *http.Request) {
		token := p.sessions.token(hr)
		if token == "" && !p.deps.Gate.Open() {
			p.askToSignIn(w, hr)
			return
		}
		caller, err := p.deps.Gate.Check(token, access.Address(hr))
		if err != nil { // the token has ended, or was taken out
			p.sessions.end(w, hr)
			p.askToSignIn(w, hr)
			return
		}
		r := &request{Request: hr.WithContext(access.With(hr.Context(), caller)), w: w, p: p, caller: caller}
		if err := h(r); err != nil {
			r.fail(err)
		}
	}
}

// Operator reports whether the reader may act.
func (r *request) Operator() bool { return r.caller.May(pipeline.Operator) }

// frame is what every page has.
type frame struct {
	Title string
	// Path is the entry of the navigation that the page belongs to.
	Path string
	// Who is signed in; "" while nobody is.
	Who      string
	Operator bool
	Open     bool
	// Refresh is how often the script renews what is marked as live, in seconds;
	// 0 is never.
	Refresh int
	Now     time.Time
	Data    any
}

// show writes a page.
func (r *request) show(view string, f frame) error {
	f.Who, f.Operator, f.Open, f.Now = r.caller.Name, r.Operator(), r.p.deps.Gate.Open(), r.p.deps.Now()
	return r.p.write(r.w, http.StatusOK, view, f)
}

// buffers keep half a page from being sent when a template fails.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (p *Pages) write(w http.ResponseWriter, status int, view string, f frame) error {
	b := buffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer buffers.Put(b)
	b.Reset()
	if err := p.views[view].ExecuteTemplate(b, "layout.html", f); err != nil {
		return fmt.Errorf("page %s: %w", view, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a reader that has gone has gone
	return nil
}

// statuses are the codes of the admin API as HTTP has them, where they differ
// from a failure of the console itself.
var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeNotFound: http.StatusNotFound,
	connect.CodePermissionDenied: http.StatusForbidden, connect.CodeFailedPrecondition: http.StatusConflict,
	connect.CodeAborted: http.StatusConflict, connect.CodeAlreadyExists: http.StatusConflict,
	connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeUnavailable: http.StatusServiceUnavailable,
	connect.CodeDeadlineExceeded: http.StatusGatewayTimeout, connect.CodeUnimplemented: http.StatusNotImplemented,
}

// fail answers with a page that says what went wrong. Errors of the admin API
// are made to be told.
func (r *request) fail(err error) {
	status, text := http.StatusInternalServerError, err.Error()
	var told *connect.Error
	if errors.As(err, &told) {
		text = told.Message()
		if s, ok := statuses[told.Code()]; ok {
			status = s
		}
	}
	if status >= http.StatusInternalServerError {
		r.p.deps.Log.LogAttrs(r.Context(), slog.LevelWarn, "page not shown", slog.String("path", r.URL.Path), slog.Any("err", err))
	}
	f := frame{Title: http.StatusText(status), Who: r.caller.Name, Operator: r.Operator(), Open: r.p.deps.Gate.Open(), Now: r.p.deps.Now(), Data: text}
	if err := r.p.write(r.w, status, "error.html", f); err != nil {
		http.Error(r.w, text, status)
	}
}

// see sends the browser to a page after something was done.
func (r *request) see(path string) error {
	http.Redirect(r.w, r.Request, path, http.StatusSeeOther)
	return nil
}

// badForm says what is wrong with what was filled in.
func badForm(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}
