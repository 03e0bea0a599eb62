package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/field"
)

// token is an access token.
type token struct {
	value   string
	expires time.Time // zero: not known
	lives   time.Duration
}

// fresh reports whether the token can be used for a while yet: for a minute, or
// a tenth of its life where that is less.
func (t token) fresh(now time.Time) bool {
	if t.value == "" {
		return false
	}
	return t.expires.IsZero() || now.Before(t.expires.Add(-min(time.Minute, t.lives/10)))
}

// tokens keeps the access token of one credential, and gets another one when it
// is about to expire or was refused: one at a time, whoever waits for it.
type tokens struct {
	now      func() time.Time
	patience time.Duration // of one fetch
	// fetch gets a token other than the one that was refused, if any.
	fetch func(ctx context.Context, refused string) (token, error)

	mu      sync.Mutex // guards what follows
	current token
	refused string // the last token that the API refused
	flight  *tokenFlight
}

// tokenFlight is a fetch that has begun. Its results are set before done is
// closed.
type tokenFlight struct {
	done  chan struct{}
	token token
	err   error
}

// get returns a token that can be used.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	if t.current.fresh(t.now()) {
		defer t.mu.Unlock()
		return t.current.value, nil
	}
	f := t.flight
	if f == nil {
		f = &tokenFlight{done: make(chan struct{})}
		t.flight = f
		// Not canceled with this one caller: others wait for it too, and a
		// rotated refresh token must be kept once the issuer has replaced it.
		go t.run(context.WithoutCancel(ctx), f, t.refused)
	}
	t.mu.Unlock()
	select {
	case <-f.done:
		return f.token.value, f.err
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for an access token: %w", ctx.Err())
	}
}

// run ends by itself within the patience of a fetch.
func (t *tokens) run(ctx context.Context, f *tokenFlight, refused string) {
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	f.token, f.err = t.fetch(ctx, refused)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flight = nil
	if f.err == nil {
		t.current = f.token
	}
	close(f.done)
}

// reject says that the API refused a token. It reports whether another one may
// be of use: not if the one that was refused was got for that very reason.
func (t *tokens) reject(value string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.value == value {
		t.current = token{}
	}
	again := t.refused != value
	t.refused = value
	return again
}

// tokenError is why there is no token. Its text holds nothing of what the
// issuer wrote but a word of a closed set.
type tokenError struct {
	text    string
	refused bool // the issuer refuses the credential
	cause   error
}

func (e *tokenError) Error() string { return "access token: " + e.text }
func (e *tokenError) Unwrap() error { return e.cause }

// maxTokenAnswer bounds what an issuer answers, in bytes.
const maxTokenAnswer = 64 << 10

// ask makes a token request and returns the strict JSON of its answer.
func ask(ctx context.Context, client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, errElsewhere) {
			return nil, &tokenError{text: "the issuer answers with a redirect", cause: errElsewhere}
		}
		told, _ := egress.Failure(ctx, err)
		return nil, &tokenError{text: told.Error(), cause: err}
	}
	defer discard(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	switch status := resp.StatusCode; {
	case err != nil:
		told, _ := egress.Failure(ctx, err)
		return nil, &tokenError{text: told.Error(), cause: err}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return nil, &tokenError{text: fmt.Sprintf("status %d of the issuer", status)}
	case status < 200 || status > 299:
		return nil, &tokenError{text: fmt.Sprintf("the issuer refuses the credential: status %d%s", status, oauthError(body)), refused: true}
	}
	if err := field.Valid(body); err != nil {
		return nil, &tokenError{text: "answer of the issuer: " + err.Error()}
	}
	return body, nil
}

// oauthErrors are the words that RFC 6749 (section 5.2) has for a refusal.
var oauthErrors = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
}

func oauthError(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return ""
	}
	for _, known := range oauthErrors {
		if answer.Error == known {
			return " (" + known + ")"
		}
	}
	return ""
}
