package simulator

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Failure is a way in which the API fails.
type Failure string

// The ways in which the API fails.
const (
	// FailSlowDown answers 429 and says when to come again.
	FailSlowDown Failure = "429 with Retry-After"
	// FailSlowDownSilently answers 429 and doesn't.
	FailSlowDownSilently Failure = "429 without Retry-After"
	// FailBroken answers 500.
	FailBroken Failure = "500"
	// FailRefused answers 422, which asking again doesn't change.
	FailRefused Failure = "422"
	// FailHang takes the request and doesn't answer, until the client gives up or
	// half a minute is over.
	FailHang Failure = "no answer"
	// FailReset resets the connection.
	FailReset Failure = "connection reset"
	// FailNotJSON answers 200 with something that is nearly JSON.
	FailNotJSON Failure = "invalid JSON"
	// FailTruncated answers 200 with the first half of the body, as if it were all.
	FailTruncated Failure = "half a body"
	// FailCutOff answers 200 with half of the body that it says will come, and
	// closes the connection.
	FailCutOff Failure = "half a body of a stated length"
	// FailPage answers 200 with a page that asks to log in.
	FailPage Failure = "a page of HTML"
	// FailMistaken answers 200 with a whole record, but another one.
	FailMistaken Failure = "another record"
	// FailEndless answers 200 with a body that doesn't end, until the client gives
	// up or half a minute is over.
	FailEndless Failure = "an endless body"
)

// Failures are all ways in which the API fails.
func Failures() []Failure {
	return []Failure{
		FailSlowDown, FailSlowDownSilently, FailBroken, FailRefused, FailHang, FailReset, FailNotJSON, FailTruncated, FailCutOff,
		FailPage, FailMistaken, FailEndless,
	}
}

// failures is how the API fails now.
type failures struct {
	how   Failure
	share float64
}

// Fail lets a share of the API's requests fail from now on, from 0 to 1, instead
// of what another call has set before. Those that it has in hand are not touched.
func (p *Provider) Fail(how Failure, share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = failures{how, share}
}

// maxFailing bounds what doesn't end by itself.
const maxFailing = 30 * time.Second

func (p *Provider) failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch how := p.fate(); how {
		case "":
			next.ServeHTTP(w, r)
		case FailSlowDown, FailSlowDownSilently:
			if how == FailSlowDown {
				w.Header().Set("Retry-After", "1")
			}
			answerError(w, http.StatusTooManyRequests, "slow down")
		case FailBroken:
			answerError(w, http.StatusInternalServerError, "something went wrong")
		case FailRefused:
			answerError(w, http.StatusUnprocessableEntity, "not now, and not later")
		case FailHang:
			ctx, cancel := context.WithTimeout(r.Context(), maxFailing)
			defer cancel()
			<-ctx.Done()
			panic(http.ErrAbortHandler) // closes the connection
		case FailReset:
			reset(w)
		case FailEndless:
			endless(w, r)
		default:
			p.garble(how, w, next, r)
		}
	})
}

// fate decides how one request fails; "" is not at all.
func (p *Provider) fate() Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails.share > 0 && p.rng.Float64() < p.fails.share {
		return p.fails.how
	}
	return ""
}

// reset ends the connection as a crash does, where there is one.
func reset(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

// endless writes the beginning of a record until nobody listens.
func endless(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), maxFailing)
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	some := bytes.Repeat([]byte("all work and no play "), 1500)
	_, err := w.Write([]byte(`{"id":"`))
	for err == nil && ctx.Err() == nil {
		_, err = w.Write(some)
	}
	panic(http.ErrAbortHandler)
}

// garble lets the API answer, and spoils what it said.
func (p *Provider) garble(how Failure, w http.ResponseWriter, next http.Handler, r *http.Request) {
	if how == FailMistaken {
		r = p.mistaken(r)
	}
	rec := recorder{header: w.Header(), status: http.StatusOK}
	next.ServeHTTP(&rec, r)
	body := rec.body.Bytes()
	switch {
	case rec.status != http.StatusOK: // there is nothing to spoil
	case how == FailNotJSON:
		body = append(bytes.TrimSuffix(body, []byte("}")), ",]"...)
	case how == FailTruncated:
		body = body[:len(body)/2]
	case how == FailCutOff:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		body = body[:len(body)/2]
	case how == FailPage:
		w.Header().Set("Content-Type", "text/html")
		body = []byte("<!doctype html><title>Log in</title><form><input name=password></form>")
	}
	w.WriteHeader(rec.status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// recorder keeps an answer back.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// mistaken asks for another record instead of the one that r is about.
func (p *Provider) mistaken(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	if strings.HasPrefix(r.URL.Path, "/customers/") {
		r.URL.Path = "/customers/" + customerID(0)
		return r
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.store.changes {
		other := p.store.changes[p.rng.IntN(len(p.store.changes))].record
		if id := other.ID; !other.Deleted && "/orders/"+id != r.URL.Path {
			r.URL.Path = "/orders/" + id
			break
		}
	}
	return r
}
