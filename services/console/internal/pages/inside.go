package pages

import (
	"io"
	"net/http"
	"sync"

	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// clients are the services of the admin API.
type clients struct {
	events          adminv1connect.EventServiceClient
	deadLetters     adminv1connect.DeadLetterServiceClient
	reconciliations adminv1connect.ReconciliationServiceClient
	sources         adminv1connect.SourceServiceClient
	pipeline        adminv1connect.PipelineServiceClient
}

// host stands where a URL must have one; nothing is looked up.
const host = "http://console.invalid"

// addressHeader carries to the transport where a reader's request came from.
const addressHeader = "Tercel-Console-Address"

func newClients(api http.Handler) clients {
	c := &http.Client{Transport: inside{api}}
	return clients{
		events:          adminv1connect.NewEventServiceClient(c, host),
		deadLetters:     adminv1connect.NewDeadLetterServiceClient(c, host),
		reconciliations: adminv1connect.NewReconciliationServiceClient(c, host),
		sources:         adminv1connect.NewSourceServiceClient(c, host),
		pipeline:        adminv1connect.NewPipelineServiceClient(c, host),
	}
}

// inside carries requests to a handler in the same process, streams included. It
// is a door of its own beside the listener: what comes through it has the same
// checks, and the address of the reader in whose name it is.
type inside struct{ handler http.Handler }

// RoundTrip has the handler answer, and returns once it has begun to.
func (t inside) RoundTrip(out *http.Request) (*http.Response, error) {
	in := out.Clone(out.Context())
	in.RemoteAddr = in.Header.Get(addressHeader)
	in.Header.Del(addressHeader)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI, in.Host = in.URL.RequestURI(), in.URL.Host
	read, write := io.Pipe()
	w := &answer{header: http.Header{}, body: write, begun: make(chan struct{})}
	go func() {
		defer func() {
			if v := recover(); v != nil { // as a server would: the reader sees a body that broke off
				w.begin(http.StatusInternalServerError)
				_ = write.CloseWithError(io.ErrUnexpectedEOF)
			}
		}()
		t.handler.ServeHTTP(w, in)
		w.begin(http.StatusOK)
		_ = write.Close() // a pipe's end can't fail
	}()
	select {
	case <-w.begun:
	case <-out.Context().Done():
		_ = read.CloseWithError(out.Context().Err())
		return nil, out.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: read, ContentLength: -1, Request: out,
	}, nil
}

// answer is the ResponseWriter of a handler inside. Its body is a pipe: nothing
// of a stream is kept.
type answer struct {
	header, sent http.Header
	body         *io.PipeWriter
	status       int
	once         sync.Once
	begun        chan struct{}
}

// Header returns the headers that are still to be sent.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader begins the answer.
func (a *answer) WriteHeader(status int) { a.begin(status) }

// Write sends a part of the body, and waits until it is read.
func (a *answer) Write(b []byte) (int, error) {
	a.begin(http.StatusOK)
	return a.body.Write(b)
}

// Flush begins the answer; its body is never held back.
func (a *answer) Flush() { a.begin(http.StatusOK) }

func (a *answer) begin(status int) {
	a.once.Do(func() {
		a.status, a.sent = status, a.header.Clone()
		close(a.begun)
	})
}
