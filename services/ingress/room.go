package ingress

import (
	"container/list"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tercelhq/tercel/services/internal/lobby"
)

// room is what requests in hand take up: places, and the memory of their bodies
// (promise 10). Where there are several sources none has more than half of it, so that
// a flood from one leaves room for the others.
//
// Who may send to a source is only known when the body is there. Until then what is
// taken behind half of any limit is lent: where places or memory are lacking, the
// sender that was lent most of them makes room, as far as that is more than the one
// that comes will have with its whole body. So a flood that is slow on purpose displaces
// itself, by many requests or by large ones; and of two large bodies that don't fit
// together the first stays, or each would be sent away for the other.
type room struct {
	most  load // of all sources together
	share load // of one

	mu   sync.Mutex // guards those below, each route's taken, and stays
	all  load
	lent map[sender]*loan
}

// load is how much is taken up, of each thing.
type load [2]int64

const (
	places = iota
	memory // in bytes
)

func (l *load) add(more load) {
	l[places] += more[places]
	l[memory] += more[memory]
}

func (l *load) remove(less load) {
	l[places] -= less[places]
	l[memory] -= less[memory]
}

// sender is a neighbourhood that sends to a source.
type sender struct {
	source *route
	from   netip.Prefix
}

// loan is what a sender's requests have whose bodies may have to make room.
type loan struct {
	sender
	load
	stays list.List // of *stay, the one that has waited longest first
}

// stay is what one request takes up of a room. The zero stay is of a request that is
// in none, such as a captured one, and takes what it wants.
type stay struct {
	room   *room
	in     *inspection
	coming bool // its body isn't there yet
	lent   bool // it has been lent what it takes

	// Guarded by room.mu, and the load only changed by its own request:
	load
	loan  *loan         // while it may have to make room, or nil
	place *list.Element // there
	gone  bool          // it made room
}

// newRoom returns a room with so many places and bytes, for one source or several.
func newRoom(requests, bytes int64, several bool) *room {
	r := &room{most: load{requests, bytes}, lent: map[sender]*loan{}}
	if r.share = r.most; several {
		r.share = load{max(requests/2, 1), bytes / 2}
	}
	return r
}

// enter takes a place and memory for the request, until its stay's leave.
func (r *room) enter(in *inspection) *refusal {
	s := &in.stay
	*s = stay{room: r, in: in, coming: in.request.Method == http.MethodPost}
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.take(load{1, in.firstSize()})
}

// more takes more memory for a request that is in already.
func (s *stay) more(size int64) *refusal {
	if s.room == nil {
		return nil
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if s.gone {
		return crowded(tooMany[memory])
	}
	return s.take(load{0, size})
}

// limit is how much of one thing one source, or all of them, may take.
type limit struct {
	of     int    // places or memory
	source *route // nil for all
	taken  *load
	most   int64
}

func (s *stay) limits() [4]limit {
	r, source := s.room, s.in.route
	return [...]limit{
		{places, source, &source.taken, r.share[places]},
		{memory, source, &source.taken, r.share[memory]},
		{places, nil, &r.all, r.most[places]},
		{memory, nil, &r.all, r.most[memory]},
	}
}

// take takes more, if need be of what others were lent. None of them makes room before
// it is known that it will do. room.mu is held, as in all that follow but arrived and
// leave.
func (s *stay) take(more load) *refusal {
	limits, lend := s.limits(), false
	for _, l := range limits {
		if lack := s.lack(l, more); lack > 0 && s.spare(l, more) < lack {
			return crowded(tooMany[l.of])
		}
	}
	for _, l := range limits {
		for s.lack(l, more) > 0 {
			s.room.displace(l)
		}
		lend = lend || 2*(l.taken[l.of]+more[l.of]) > l.most
	}
	s.load.add(more)
	s.room.all.add(more)
	s.in.route.taken.add(more)
	if s.loan != nil {
		s.loan.load.add(more)
	} else if lend && s.coming {
		s.lend()
	}
	return nil
}

// lack is how much more than the limit there would be.
func (s *stay) lack(l limit, more load) int64 {
	if l.of == memory && l.taken[places] == s.load[places] {
		return 0 // one that is alone gets what it needs, or it never would
	}
	return l.taken[l.of] + more[l.of] - l.most
}

// spare is how much others were lent beyond what the request's own sender will have.
func (s *stay) spare(l limit, more load) (n int64) {
	from, mine := s.sender(), s.load
	mine.add(more)
	mine[memory] = max(mine[memory], s.in.wholeSize())
	if own := s.room.lent[from]; own != nil {
		mine.add(own.load)
		if s.loan != nil {
			mine.remove(s.load)
		}
	}
	for _, one := range s.room.lent {
		if l.source == nil || l.source == one.source {
			n += max(one.load[l.of]-mine[l.of], 0)
		}
	}
	return n
}

// displace makes room below the limit, where there is something to spare: for it is one
// of the sender that was lent most, and there the request that has most, or has waited
// longest, that goes.
func (r *room) displace(l limit) {
	var most *loan
	for _, one := range r.lent {
		if (l.source == nil || l.source == one.source) && (most == nil || one.load[l.of] > most.load[l.of]) {
			most = one
		}
	}
	var goes *stay
	for e := most.stays.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*stay); goes == nil || s.load[l.of] > goes.load[l.of] { //nolint:forcetypeassert // nothing else is put in
			goes = s
		}
	}
	goes.giveBack()
	goes.gone = true
	_ = http.NewResponseController(goes.in.writer).SetReadDeadline(time.Unix(1, 0)) // a writer without a connection has no wait
}

// sender is who sent the request. Those who hide it are one.
func (s *stay) sender() sender {
	a, _ := s.in.sender()
	return sender{s.in.route, lobby.Neighbourhood(a)}
}

// lend has the request make room if need be, until settle.
func (s *stay) lend() {
	from := s.sender()
	if s.loan = s.room.lent[from]; s.loan == nil {
		s.loan = &loan{sender: from}
		s.room.lent[from] = s.loan
	}
	s.loan.load.add(s.load)
	s.place = s.loan.stays.PushBack(s)
	s.lent = true
}

// settle keeps the request from being displaced.
func (s *stay) settle() {
	if s.loan == nil {
		return
	}
	s.loan.load.remove(s.load)
	if s.loan.stays.Remove(s.place); s.loan.stays.Len() == 0 {
		delete(s.room.lent, s.loan.sender)
	}
	s.loan = nil
}

func (s *stay) giveBack() {
	s.settle()
	s.room.all.remove(s.load)
	s.in.route.taken.remove(s.load)
}

// arrived says that the body is there, or that it won't come. It reports whether the
// request may stay.
func (s *stay) arrived() bool {
	if s.coming = false; !s.lent {
		return true
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.settle()
	return !s.gone
}

// leave gives everything back.
func (s *stay) leave() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if !s.gone {
		s.giveBack()
	}
}

// inHand is how many requests there are.
func (r *room) inHand() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.all[places])
}

// tooMany says of what.
var tooMany = [...]string{places: "too many requests in hand", memory: "too many bodies in hand"}

func crowded(text string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, outcome: unavailable, text: text, retryAfter: retryCrowded}
}
