package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/services/console/internal/access"
)

// InProcess returns what the clients of package adminv1connect call the API with
// from the same process, as the caller that the context of a call has (see
// access.With), and under the same checks and records as from outside. Give them
// the base URL "http://console".
func (a *API) InProcess() connect.HTTPClient { return inProcess{a} }

type inProcess struct{ *API }

// Do answers a request. Its body is a stream: it ends when the call does, and
// closing it ends the call.
func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	caller, err := access.From(r.Context())
	if err != nil {
		return nil, err
	}
	m, ok := p.methods[r.URL.Path]
	if !ok {
		return nil, errors.New("no such method: " + r.URL.Path)
	}
	ctx, end := context.WithCancelCause(r.Context())
	cancel := func() { end(context.Cause(r.Context())) } // a record tells why its caller went
	reader, writer := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: writer, begun: make(chan struct{})}
	served := r.Clone(ctx)
	if served.Body == nil {
		served.Body = http.NoBody
	}
	go func() {
		defer cancel()
		defer func() { _ = writer.Close() }()
		defer w.WriteHeader(http.StatusOK)
		defer p.caught(ctx, m, w)
		p.admit(w, served, m, caller)
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done():
		cancel()
		_ = reader.Close() // so that nobody waits for it to be read
		return nil, r.Context().Err()
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.sent,
		Body: &pipeReader{reader, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// caught answers for a call that panicked outside of its method, which must not
// end the process; over a connection net/http sees to it.
func (p inProcess) caught(ctx context.Context, m method, w *pipeWriter) {
	v := recover()
	if v == nil {
		return
	}
	p.deps.Log.LogAttrs(ctx, slog.LevelError, "admin call panicked", slog.String("method", m.name), slog.Any("panic", v))
	w.WriteHeader(http.StatusInternalServerError)
	_ = w.body.CloseWithError(errors.New("the call broke off")) // where the answer had begun; it never fails
}

// pipeReader is an answer's body.
type pipeReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the call.
func (r *pipeReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// pipeWriter is the other end. It is for one goroutine.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	begun  chan struct{} // closed with the status
	status int
	sent   http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	}
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Flush has nothing to do: what is written has been read.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
