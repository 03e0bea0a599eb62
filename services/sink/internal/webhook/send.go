package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

const (
	headerID        = "Webhook-Id"
	headerSignature = "Webhook-Signature"
	// headerSequence is the event's place in its stream: what a repeat has too.
	headerSequence = "Tercel-Sequence"

	// maxAnswer is how many bytes of an answer are kept.
	maxAnswer = 4 << 10
	// answerTime bounds the reading of an answer's body.
	answerTime = 2 * time.Second
)

// webhookID identifies an event for ever (promise 4): however often and for
// whatever reason it is sent, receivers tell it by this.
func webhookID(it delivery.Item) string { return it.Event.MsgID() }

// send makes one request for it, waiting for the rate and for a free slot.
func (r *Receiver) send(ctx context.Context, it delivery.Item) finding {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return finding{kind: unsent, err: errors.New("not sent: no request ended in time")}
	}
	defer func() { <-r.slots }()
	if err := r.turns.Wait(ctx); err != nil {
		return finding{kind: unsent, err: errors.New("not sent: the configured rate leaves no time for it")}
	}
	started := time.Now()
	f, again := r.exchange(ctx, it)
	if again { // the connection was closed while it was idle
		f, _ = r.exchange(ctx, it)
	}
	r.metrics.sent(ctx, f.kind, time.Since(started))
	return f
}

// exchange makes one request. Again says that a connection that had served
// before was closed without an answer.
func (r *Receiver) exchange(ctx context.Context, it delivery.Item) (f finding, again bool) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var connected, reused atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		connected.Store(true)
		reused.Store(c.Reused)
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL, bytes.NewReader(it.Body))
	if err != nil {
		return finding{kind: outage, err: errors.New("url: not valid")}, false
	}
	req.Header = r.header(it)
	resp, err := r.http.Do(req)
	switch {
	case err != nil && !connected.Load():
		return finding{kind: outage, err: notConnected(ctx, err)}, false
	case err != nil:
		told, again := egress.Failure(ctx, err)
		return finding{kind: doubtful, err: told}, again && reused.Load()
	}
	// A body that doesn't come must not keep what the status said already.
	enough := time.AfterFunc(answerTime, cancel)
	defer enough.Stop()
	defer func() { _ = resp.Body.Close() }()
	most := maxAnswer + r.longest
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, int64(most)))
	text := r.sanitize(answer)
	if len(answer) == most { // a secret that is cut at the end is none to sanitize
		text = text[:max(0, len(text)-r.longest)]
	}
	return r.meaning(resp, strings.ToValidUTF8(text[:min(len(text), maxAnswer)], "")), false
}

// header are the headers of one request.
func (r *Receiver) header(it delivery.Item) http.Header {
	h := http.Header{"User-Agent": {"tercel"}, headerSequence: {strconv.FormatUint(it.Sequence, 10)}}
	for name, values := range it.Event.Header() {
		h[http.CanonicalHeaderKey(name)] = values
	}
	for name, value := range r.cfg.Headers {
		h.Set(name, value.Reveal())
	}
	now := time.Now()
	var signatures []string
	for _, key := range r.keys {
		for name, values := range r.signer.Sign(key, it.Body, webhookID(it), now) {
			name = http.CanonicalHeaderKey(name)
			h[name] = values
			if name == headerSignature {
				signatures = append(signatures, values...)
			}
		}
	}
	h.Set(headerSignature, strings.Join(signatures, " "))
	return h
}

// sanitize makes of an answer a text without control characters and without
// secrets of ours that the server sent back (promise 9).
func (r *Receiver) sanitize(answer []byte) string {
	text := strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(string(answer), "\uFFFD"))
	return strings.TrimSpace(r.shown.Replace(text))
}

// notConnected tells why there is no connection. It is never the event's fault,
// not even if the address is one that may not be called.
func notConnected(ctx context.Context, err error) error {
	var refused *egress.RefusedError
	if errors.As(err, &refused) {
		return refused
	}
	told, _ := egress.Failure(ctx, err)
	return fmt.Errorf("not connected: %w", told)
}
