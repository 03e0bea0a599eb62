package ingress

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tercelhq/tercel/services/internal/lobby"
)

// room is what requests in hand take up: places, and the memory of their
// bodies (promise 10). Where there are several sources none has more than half
// of it, so that a flood from one leaves room for the others.
//
// Who may send to a source is only known when the body is there. Of the places behind
// the first half of a source's, those whose bodies have not come make room for others,
// as in a lobby: a flood that is slow on purpose displaces itself.
type room struct {
	places int
	bytes  int64
	shared bool // there is more than one source

	mu  sync.Mutex // guards those below, each route's taken and coming, and stays
	all load
}

// load is how much is taken up.
type load struct {
	requests int
	bytes    int64
}

// stay is what one request takes up of a room. The zero stay is of a request that is
// in none, such as a captured one, and takes what it wants.
type stay struct {
	room    *room
	source  *route
	writer  http.ResponseWriter
	movable bool // it may have to make room before its body is there

	// Guarded by room.mu, and bytes only changed by its own request:
	bytes int64
	place *lobby.Place[*stay] // while it is movable, or nil
	gone  bool                // it made room
}

// enter takes a place and memory for the request, until its stay's leave.
func (r *room) enter(in *inspection) *refusal {
	s, own := &in.stay, &in.route.taken
	*s = stay{room: r, source: in.route, writer: in.writer, bytes: in.firstSize()}
	var from netip.Prefix
	if s.movable = in.request.Method == http.MethodPost && r.halfFull(in.route); s.movable {
		a, _ := in.sender() // those who hide it are one
		from = lobby.Neighbourhood(a)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.all.requests >= r.places || own.requests >= r.share()) && !r.displace(in.route, from) {
		return crowded("too many requests in hand")
	}
	// One that comes alone is let in whatever its size, or it never would be.
	if r.all.bytes > 0 && r.all.bytes+s.bytes > r.bytes || r.shared && own.bytes > 0 && own.bytes+s.bytes > r.bytes/2 {
		return crowded("too many bodies in hand")
	}
	if r.add(in.route, 1, s.bytes); s.movable {
		s.place = in.route.coming.Add(s, from)
	}
	return nil
}

// share is how many places one source may take.
func (r *room) share() int {
	if r.shared {
		return max(r.places/2, 1)
	}
	return r.places
}

// halfFull reports whether the source has taken half of its places.
func (r *room) halfFull(source *route) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return source.taken.requests >= r.share()/2
}

// displace reports whether a request of the source has made room for one that comes
// from there: of a neighbourhood that has more of them all the same. r.mu is held.
func (r *room) displace(source *route, from netip.Prefix) bool {
	one, n := source.coming.Most()
	if n <= source.coming.Count(from)+1 {
		return false
	}
	one.settle()
	one.gone = true
	r.add(source, -1, -one.bytes)
	_ = http.NewResponseController(one.writer).SetReadDeadline(time.Unix(1, 0)) // a writer without a connection has no wait
	return true
}

// more takes more memory for a request that is in already.
func (s *stay) more(size int64) *refusal {
	r := s.room
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	own := s.source.taken
	// As above, one that is alone gets what it needs.
	if s.gone || r.all.requests > 1 && r.all.bytes+size > r.bytes || r.shared && own.requests > 1 && own.bytes+size > r.bytes/2 {
		return crowded("too many bodies in hand")
	}
	s.bytes += size
	r.add(s.source, 0, size)
	return nil
}

// arrived says that the body is there, or that it won't come. It reports whether the
// request may stay.
func (s *stay) arrived() bool {
	if !s.movable {
		return true
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.settle()
	return !s.gone
}

// settle keeps the request from being displaced; room.mu is held.
func (s *stay) settle() {
	if s.place != nil {
		s.source.coming.Remove(s.place)
		s.place = nil
	}
}

// leave gives everything back.
func (s *stay) leave() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if s.settle(); !s.gone {
		s.room.add(s.source, -1, -s.bytes)
	}
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

func crowded(text string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, outcome: unavailable, text: text, retryAfter: retryCrowded}
}
