package ingress_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// Promise 10: what a body takes up grows as it comes. One that the budget has no more
// room for is asked to come again, whatever was announced.
func TestGrowingBodiesFitTheBudget(t *testing.T) {
	t.Parallel()
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked %t", chunked), func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *ingress.Config) { c.BodyBudget, c.ReadTimeout = 1<<20, time.Minute })
			f.run()
			body := strings.Repeat("a", 300<<10)
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
