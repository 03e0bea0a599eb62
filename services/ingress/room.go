package ingress

import (
	"net/http"
	"sync"
)

// room is what requests in hand take up: places, and the memory of their
// bodies (promise 10). Where there are several sources none has more than half
// of it, so that a flood from one leaves room for the others.
type room struct {
	places int
	bytes  int64
	shared bool // there is more than one source

	mu  sync.Mutex // guards those below, and each route's taken
	all load
}

// load is how much is taken up.
type load struct {
	requests int
	bytes    int64
}

// enter takes a place and memory for size bytes, which leave gives back.
func (r *room) enter(source *route, size int64) (leave func(), no *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := source.taken
	if r.all.requests >= r.places || r.shared && own.requests >= max(r.places/2, 1) {
		return nil, crowded("too many requests in hand")
	}
	// One that comes alone is let in whatever its size, or it never would be.
	if r.all.bytes > 0 && r.all.bytes+size > r.bytes || r.shared && own.bytes > 0 && own.bytes+size > r.bytes/2 {
		return nil, crowded("too many bodies in hand")
	}
	r.add(source, 1, size)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.add(source, -1, -size)
	}, nil
}

// more takes more memory for a request that is in already.
func (r *room) more(source *route, size int64) (leave func(), no *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := source.taken
	// As above, one that is alone gets what it needs.
	if r.all.requests > 1 && r.all.bytes+size > r.bytes || r.shared && own.requests > 1 && own.bytes+size > r.bytes/2 {
		return nil, crowded("too many events in hand")
	}
	r.add(source, 0, size)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.add(source, 0, -size)
	}, nil
}

func (r *room) add(source *route, requests int, bytes int64) {
	for _, l := range []*load{&r.all, &source.taken} {
		l.requests += requests
		l.bytes += bytes
	}
}

// inHand is how many requests there are.
func (r *room) inHand() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.requests
}

// claims is the most memory that the request's body can take.
func (in *inspection) claims() int64 {
	claims := in.maxBody()
	if n := in.request.ContentLength; n >= 0 {
		claims = min(n, in.maxBody())
	}
	if len(in.route.source.Request.Encodings) > 0 && len(in.request.Header["Content-Encoding"]) > 0 {
		claims += in.maxBody() // what comes of it
	}
	return claims
}

func crowded(text string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, outcome: unavailable, text: text, retryAfter: retryCrowded}
}
