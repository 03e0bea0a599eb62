package simulator

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Page sizes of the list, in records.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// ServeHTTP answers an API request: GET /orders/{id}, GET /customers/{id} or
// GET /orders?updated_after=&limit=&cursor=. Who watches the simulation asks GET
// /readyz, /simulation for its [Progress] and /simulation/book for its [Book],
// without a token.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.api.ServeHTTP(w, r) }

func (p *Provider) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", p.getOrder)
	mux.HandleFunc("GET /orders", p.listOrders)
	mux.HandleFunc("GET /customers/{id}", p.getCustomer)
	all := http.NewServeMux()
	all.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	all.HandleFunc("GET /simulation", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, mustJSON(p.Progress())) })
	all.HandleFunc("GET /simulation/book", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, mustJSON(p.Book())) })
	all.Handle("/", p.failing(p.authenticated(p.limited(mux))))
	return all
}

func (p *Provider) authenticated(next http.Handler) http.Handler {
	want := []byte(p.cfg.Token.Reveal())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			answerError(w, http.StatusUnauthorized, "bearer token missing or wrong")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Provider) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		remaining, reset := p.budget.spend(now)
		h := w.Header()
		h.Set("X-Ratelimit-Limit", strconv.Itoa(p.cfg.Budget))
		h.Set("X-Ratelimit-Remaining", strconv.Itoa(max(remaining, 0)))
		h.Set("X-Ratelimit-Reset", strconv.FormatInt(reset.Unix(), 10))
		switch {
		case remaining < 0:
			h.Set("Retry-After", "1")
			answerError(w, http.StatusTooManyRequests, "too many requests in this second")
		case p.unavailable():
			answerError(w, http.StatusServiceUnavailable, "try again")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (p *Provider) unavailable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Float64() < p.cfg.Unavailable
}

func (p *Provider) getOrder(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	rec := p.store.records[r.PathValue("id")]
	var found Record
	hidden := false
	if rec != nil {
		found, hidden = *rec, p.store.hidden(rec)
	}
	p.mu.Unlock()
	switch {
	case rec == nil || found.Deleted:
		answerError(w, http.StatusNotFound, "no such order")
	case hidden:
		answerError(w, http.StatusUnprocessableEntity, "this order can't be shown")
	default:
		answer(w, http.StatusOK, found.JSON)
	}
}

func (p *Provider) getCustomer(w http.ResponseWriter, r *http.Request) {
	body, ok := p.store.customers[r.PathValue("id")] // written by New only
	if !ok {
		answerError(w, http.StatusNotFound, "no such customer")
		return
	}
	answer(w, http.StatusOK, body)
}

// listOrders lists orders by the time of their last change, oldest first, from
// updated_after on, that time included.
func (p *Provider) listOrders(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var from position
	var err error
	if text := q.Get("updated_after"); text != "" {
		if from.at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			answerError(w, http.StatusBadRequest, "updated_after: want an RFC 3339 time")
			return
		}
	}
	if text := q.Get("cursor"); text != "" {
		if from, err = decodeCursor(text); err != nil {
			answerError(w, http.StatusBadRequest, "cursor: not one of this list")
			return
		}
	}
	limit := defaultLimit
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLimit {
			answerError(w, http.StatusBadRequest, "limit: want 1 to "+strconv.Itoa(maxLimit))
			return
		}
	}
	p.mu.Lock()
	records, more := p.store.list(from, limit)
	p.mu.Unlock()
	page := struct {
		Orders     []json.RawMessage `json:"orders"`
		NextCursor *string           `json:"next_cursor"`
	}{Orders: make([]json.RawMessage, len(records))}
	for i, rec := range records {
		page.Orders[i] = rec.JSON
	}
	if more {
		c := encodeCursor(records[len(records)-1].UpdatedAt)
		page.NextCursor = &c
	}
	answer(w, http.StatusOK, mustJSON(page))
}

// A cursor is the time of the last record's change: no two share one.
func encodeCursor(t time.Time) string {
	return base64.RawURLEncoding.EncodeToString([]byte(t.Format(time.RFC3339Nano)))
}

func decodeCursor(text string) (position, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return position{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, string(b))
	return position{at: at, after: true}, err
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

func answerError(w http.ResponseWriter, status int, message string) {
	answer(w, status, mustJSON(map[string]string{"error": message}))
}

// budget counts requests in windows of a second.
type budget struct {
	mu    sync.Mutex
	limit int
	used  int
	reset time.Time
}

// spend takes one request off the budget. It returns what is left, below 0
// when there was nothing, and when the next window begins.
func (b *budget) spend(now time.Time) (remaining int, reset time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !now.Before(b.reset) {
		// Whole seconds, so that a client that waits for the reset it was told
		// of doesn't come too early.
		b.used, b.reset = 0, now.Truncate(time.Second).Add(time.Second)
	}
	b.used++
	return b.limit - b.used, b.reset
}
