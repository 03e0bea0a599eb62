package ingress_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 10: a flood from one source is held back, and the others are served.
func TestFloodOfOneSourceLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight = 4 })
	f.run()
	for range 2 {
		f.dial().inHand(f.delivery("orders", "slow", goodBody))
	}
	if r := f.send(f.delivery("orders", "more", goodBody)); r.code != http.StatusServiceUnavailable {
		t.Errorf("more than half: answered %d, want 503", r.code)
	}
	if r := f.send(f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
		t.Errorf("another source: answered %d %s, want 200", r.code, r.Error)
	}
}

// Promise 10: bodies in hand take no more memory than they may, and give it back.
func TestBodiesInHandFitTheBudget(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.BodyBudget = 20 << 10 })
	f.run()
	large := `{"kind":"order.paid","x":"` + strings.Repeat("a", 9<<10) + `"}`
	slow := f.dial()
	rest := slow.inHand(f.delivery("orders", "first", large))
	second := f.delivery("orders", "second", large)
	if r := f.send(second); r.code != http.StatusServiceUnavailable {
		t.Errorf("beyond the source's half: answered %d, want 503", r.code)
	}
	if r := f.send(f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
		t.Errorf("another source: answered %d %s, want 200", r.code, r.Error)
	}
	slow.write(rest)
	if r := slow.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("the one in hand: answered %s, want 200", r.Status)
	}
	eventually(t, "room again", func() bool { return f.send(second).code == http.StatusOK })
}

// Promise 10: a body that is announced and doesn't come takes up next to nothing, at
// the default budget too. What a stranger says keeps no genuine request out.
func TestAnnouncementsTakeUpNoRoom(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.ReadTimeout = time.Minute })
	f.run()
	for range 20 { // at their word more than the budget, several times over
		for _, length := range []string{"Content-Length: 2097152", "Transfer-Encoding: chunked"} {
			w := f.dial()
			w.write("POST /v1/bytes HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nExpect: 100-continue\r\n" + length + "\r\n\r\n")
			if r := w.answer(); r.StatusCode != http.StatusContinue {
				t.Fatalf("%s: answered %s, want 100", length, r.Status)
			}
		}
	}
	if r := f.send(f.delivery("bytes", "genuine", "genuine")); r.code != http.StatusOK {
		t.Errorf("answered %d %s, want 200", r.code, r.Error)
	}
}

// Promise 10: who opens as many slow requests as a source may have in hand keeps nobody
// else from sending to it. They make room for others, and not for more of their own.
func TestSlowBodiesMakeRoomForOthers(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight, c.ReadTimeout = 16, time.Minute })
	f.run()
	flood := func(round string) (slow []*wire, rests []string) {
		for i := range 8 { // the source's half
			w := f.dialFrom("127.0.0.2")
			rests = append(rests, w.inHand(f.delivery("orders", fmt.Sprint(round, i), goodBody)))
			slow = append(slow, w)
		}
		more := f.dialFrom("127.0.0.2")
		more.write(string(f.delivery("orders", "more", goodBody).raw()))
		if r := more.answer(); r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("one more of the flood: answered %s, want 503", r.Status)
		}
		return slow, rests
	}
	slow, rests := flood("first")
	genuine := f.delivery("orders", "genuine", goodBody)
	other := f.dial()
	other.write(string(genuine.raw()))
	if r := other.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("another sender: answered %s, want 200", r.Status)
	}
	if r := slow[4].answer(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || !r.Close {
		t.Errorf("the one that made room: answered %s, Retry-After %q, close %t, want 503 and an end", r.Status, r.Header.Get("Retry-After"), r.Close)
	}
	for i, w := range slow {
		if i == 4 {
			continue
		}
		w.write(rests[i])
		if r := w.answer(); r.StatusCode != http.StatusOK {
			t.Errorf("slow request %d: answered %s, want 200", i, r.Status)
		}
	}
	flood("second") // there is as much room as before
}

// slow is a request whose body is coming, without a connection.
type slow struct {
	*httptest.ResponseRecorder
	body   *io.PipeReader
	coming *io.PipeWriter
	over   chan struct{}
}

// slowly sends so many bytes of the delivery's body from an address, and returns when
// they are read.
func (f *fixture) slowly(from string, d delivery, n int) *slow {
	f.t.Helper()
	s := &slow{ResponseRecorder: httptest.NewRecorder(), over: make(chan struct{})}
	s.body, s.coming = io.Pipe()
	f.t.Cleanup(func() { _ = s.coming.Close() })
	r := d.request(f.t)
	r.RemoteAddr, r.Body = from+":1", s.body
	go func() {
		defer close(s.over)
		f.service.Handler().ServeHTTP(s, r)
	}()
	if _, err := io.WriteString(s.coming, d.body[:n]); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// SetReadDeadline ends the wait for the body, as a connection's does, if it is over.
func (s *slow) SetReadDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		_ = s.body.CloseWithError(os.ErrDeadlineExceeded)
	}
	return nil
}

// answer is what came of it when it is over.
func (s *slow) answer(t testing.TB) int {
	t.Helper()
	select {
	case <-s.over:
		return s.Code
	case <-time.After(time.Minute):
		t.Fatal("not answered within a minute")
		return 0
	}
}

// sendFrom is send from an address.
func (f *fixture) sendFrom(addr string, d delivery) reply {
	f.t.Helper()
	w, r := httptest.NewRecorder(), d.request(f.t)
	r.RemoteAddr = addr + ":1"
	f.service.Handler().ServeHTTP(w, r)
	return readReply(f.t, w.Code, w.Header(), w.Body.Bytes())
}

// Promise 10: nor do slow bodies keep others out by the memory that they take up, with
// places enough, whether they were announced or have come in part. Nor if the bodies of
// others are large.
func TestSlowBodiesLeaveMemoryForOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		places        int
		announced     int // bytes of each of the flood
		sent, taken   int // bytes of it, and what it takes up with that
		rest, genuine int // bytes of one more of the flood's, and of another sender's
		gone          int // of the flood, to make room for the latter
	}{
		"one byte more than is given at first": {1024, 512 << 10, 64<<10 + 1, 128 << 10, 1, 300 << 10, 3},
		"large ones, of which a part comes":    {1024, 900 << 10, 600 << 10, 900 << 10, 300 << 10, 300 << 10, 1},
		"not a byte of what is announced":      {1024, 64 << 10, 0, 64 << 10, 1, 100, 1},
		"places too":                           {64, 64 << 10, 0, 64 << 10, 1, 300 << 10, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.MaxInFlight, c.BodyBudget = tt.places, 4<<20 })
			flood := make([]*slow, 2<<20/tt.taken) // the source's half
			for i := range flood {
				flood[i] = f.slowly("192.0.2.1", f.delivery("bytes", "slow", strings.Repeat("a", tt.announced)), tt.sent)
			}
			if r := f.sendFrom("192.0.2.1", f.delivery("bytes", "rest", strings.Repeat("a", tt.rest))); r.code != http.StatusServiceUnavailable {
				t.Errorf("one more of the flood: answered %d, want 503", r.code)
			}
			if r := f.sendFrom("192.0.2.2", f.delivery("bytes", "genuine", strings.Repeat("a", tt.genuine))); r.code != http.StatusOK {
				t.Fatalf("another sender: answered %d %s, want 200", r.code, r.Error)
			}
			gone := 0
			for _, s := range flood {
				if s.coming.Close(); s.answer(t) == http.StatusServiceUnavailable {
					gone++
				}
			}
			if gone != tt.gone {
				t.Errorf("%d made room, want %d", gone, tt.gone)
			}
		})
	}
}

// Promise 10: who can't be let in anyway costs nobody a place.
func TestNobodyMakesRoomInVain(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight, c.BodyBudget = 16, 1<<20 })
	size := 512<<10 - 7*bytes.MinRead // with seven small ones the source's half
	all := []*slow{f.slowly("192.0.2.1", f.delivery("bytes", "large", strings.Repeat("a", size)), size-1)}
	for i := range 7 { // which take the rest of its places too
		all = append(all, f.slowly("192.0.2.2", f.delivery("bytes", fmt.Sprint("small", i), "a"), 0))
	}
	for name, length := range map[string]int64{"as large": int64(size), "larger than may be": math.MaxInt64, "not announced": -1} {
		for _, addr := range []string{"192.0.2.2", "192.0.2.3"} {
			w, r := httptest.NewRecorder(), f.delivery("bytes", "next", "").request(t)
			r.RemoteAddr, r.ContentLength = addr+":1", length
			if f.service.Handler().ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable {
				t.Errorf("%s, from %s: answered %d, want 503", name, addr, w.Code)
			}
		}
	}
	for i, s := range all[1:] {
		if _, err := io.WriteString(s.coming, "a"); err != nil || s.coming.Close() != nil || s.answer(t) != http.StatusOK {
			t.Errorf("small request %d: answered %d, %v, want 200", i, s.Code, err)
		}
	}
	if _, err := io.WriteString(all[0].coming, "a"); err != nil || all[0].coming.Close() != nil || all[0].answer(t) != http.StatusOK {
		t.Errorf("the large one: answered %d, %v, want 200", all[0].Code, err)
	}
}

// Promise 10: a stranger who floods several sources at once leaves room for the others,
// whether each is flooded to its half or none is.
func TestFloodOfSeveralSourcesLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	for name, flooded := range map[string][]string{
		"two to their half":    {"orders", "bytes"},
		"four to half of that": {"orders", "bytes", "hub", "std"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.MaxInFlight = 16 })
			for i := range 16 {
				f.slowly("192.0.2.1", f.delivery(flooded[i%len(flooded)], fmt.Sprint("slow", i), goodBody), 1)
			}
			if r := f.sendFrom("192.0.2.2", f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
				t.Errorf("another source: answered %d, want 200", r.code)
			}
		})
	}
}

// The largest request of a flood makes room for memory, rather than many small ones, and
// none does for more than there can be.
func TestTheLargestMakesRoomForMemory(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.BodyBudget = 1 << 20 })
	var flood []*slow
	for _, size := range []int{200 << 10, 60 << 10, 1, 190 << 10, 1} { // from the second on, lent
		flood = append(flood, f.slowly("192.0.2.1", f.delivery("bytes", "slow", strings.Repeat("a", size)), size-1))
	}
	flood = append(flood, f.slowly("192.0.2.3", f.delivery("bytes", "slow", "a"), 0))
	w, huge := httptest.NewRecorder(), f.delivery("bytes", "huge", "").request(t)
	huge.RemoteAddr, huge.ContentLength = "192.0.2.1:1", math.MaxInt64
	if f.service.Handler().ServeHTTP(w, huge); w.Code != http.StatusServiceUnavailable {
		t.Errorf("what the flood announces besides: answered %d, want 503", w.Code)
	}
	if r := f.sendFrom("192.0.2.2", f.delivery("bytes", "genuine", strings.Repeat("a", 100<<10))); r.code != http.StatusOK {
		t.Errorf("another sender: answered %d %s, want 200", r.code, r.Error)
	}
	for i, s := range flood {
		_ = s.coming.Close()
		if code := s.answer(t); (code == http.StatusServiceUnavailable) != (i == 3) {
			t.Errorf("request %d of the flood: answered %d, want 503 of the largest that was lent", i, code)
		}
	}
}

// Promise 10: what a body takes up grows as it comes. One that the budget has no more
// room for is asked to come again, whatever was announced.
func TestGrowingBodiesFitTheBudget(t *testing.T) {
	t.Parallel()
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked %t", chunked), func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.BodyBudget, c.ReadTimeout = 800<<10, time.Minute })
			f.run()
			body := strings.Repeat("a", 250<<10)
			second := f.delivery("bytes", "second", body)
			coming, more := io.Pipe()
			first := f.delivery("bytes", "first", body).request(t)
			if first.Body = coming; chunked {
				first.ContentLength = -1
			}
			answered := make(chan int, 1)
			go func() {
				w := httptest.NewRecorder()
				f.service.Handler().ServeHTTP(w, first)
				answered <- w.Code
			}()
			if _, err := io.WriteString(more, body[1:]); err != nil { // returns when it is read
				t.Fatal(err)
			}
			if r := f.send(second); r.code != http.StatusServiceUnavailable {
				t.Errorf("beyond the source's half: answered %d, want 503", r.code)
			}
			w := f.dial()
			go func() { _, _ = w.Conn.Write(second.raw()) }() // as far as it is read
			if r := w.answer(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
				t.Errorf("over the wire: answered %s, Retry-After %q, want 503", r.Status, r.Header.Get("Retry-After"))
			}
			if r := f.send(f.delivery("rotating", "", `{"id":"e","kind":"k"}`)); r.code != http.StatusOK {
				t.Errorf("another source: answered %d %s, want 200", r.code, r.Error)
			}
			_, _ = io.WriteString(more, body[:1])
			_ = more.Close()
			if code := <-answered; code != http.StatusOK {
				t.Errorf("the one in hand: answered %d, want 200", code)
			}
			if r := f.send(second); r.code != http.StatusOK {
				t.Errorf("with room again: answered %d %s, want 200", r.code, r.Error)
			}
		})
	}
}
