package ingress_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// wire is a bare connection to a running service.
type wire struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func (f *fixture) dial() *wire {
	f.t.Helper()
	c, err := net.Dial("tcp", f.service.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	return f.wire(c)
}

// dialFrom is dial from another address.
func (f *fixture) dialFrom(addr string) *wire {
	f.t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := from.Dial("tcp", f.service.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	return f.wire(c)
}

func (f *fixture) wire(c net.Conn) *wire {
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &wire{f.t, c, bufio.NewReader(c)}
}

func (w *wire) write(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// answer reads the next answer, or fails the test.
func (w *wire) answer() *http.Response {
	w.t.Helper()
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatalf("cut answer: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return r
}

// ended reports whether the service has closed the connection.
func (w *wire) ended() bool {
	rest, err := io.ReadAll(w.in)
	return len(rest) == 0 && err == nil
}

// inHand begins the delivery, waits until the service reads its body, and
// returns what has to be sent yet.
func (w *wire) inHand(d delivery) (rest string) {
	w.t.Helper()
	d.header.Set("Expect", "100-continue")
	head, rest, _ := strings.Cut(string(d.raw()), "\r\n\r\n")
	w.write(head + "\r\n\r\n")
	if r := w.answer(); r.StatusCode != http.StatusContinue {
		w.t.Fatalf("answered %s before the body was there", r.Status)
	}
	return rest
}

func TestKeepAliveServesOneRequestAfterTheOther(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run()
	w := f.dial()
	for i := range 3 {
		w.write(string(f.delivery("orders", fmt.Sprint("d-", i), fmt.Sprintf(`{"kind":"order.paid","order":{"id":%d}}`, i)).raw()))
		if r := w.answer(); r.StatusCode != http.StatusOK || r.Close {
			t.Fatalf("request %d: %s, close %t", i, r.Status, r.Close)
		}
	}
	if got := f.stored(); got != 3 {
		t.Errorf("%d messages stored, want 3", got)
	}
}

// Whatever stands behind a chunked body on the same connection isn't read: a
// proxy may have taken it for a part of the body.
func TestChunkedRequestEndsItsConnection(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run()
	hidden := string(f.delivery("orders", "hidden", goodBody).raw())
	first := f.delivery("orders", "first", goodBody)
	first.chunked = true
	both := strings.Replace(string(first.raw()), "Transfer-Encoding:", "Content-Length: 9999\r\nTransfer-Encoding:", 1)
	for name, request := range map[string]string{"chunked": string(first.raw()), "chunked with a length": both} {
		w := f.dial()
		w.write(request + hidden)
		if r := w.answer(); r.StatusCode != http.StatusOK || !r.Close {
			t.Errorf("%s: answered %s, close %t, want 200 and a close", name, r.Status, r.Close)
		}
		if !w.ended() {
			t.Errorf("%s: more than one answer", name)
		}
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
}

// Requests that two readers could read in two ways are refused by both.
func TestAmbiguousFramingIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run()
	good := string(f.delivery("orders", "d", goodBody).raw())
	length := fmt.Sprintf("Content-Length: %d\r\n", len(goodBody))
	chunked := f.delivery("orders", "d", goodBody)
	chunked.chunked = true
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"two lengths":            {strings.Replace(good, length, length+"Content-Length: 5\r\n", 1), 400},
		"length list":            {strings.Replace(good, length, "Content-Length: 5, 6\r\n", 1), 400},
		"length with a sign":     {strings.Replace(good, "Content-Length: ", "Content-Length: +", 1), 400},
		"negative length":        {strings.Replace(good, "Content-Length: ", "Content-Length: -", 1), 400},
		"unknown coding":         {strings.Replace(good, length, "Transfer-Encoding: gzip, chunked\r\n", 1), 400},
		"space before the colon": {strings.Replace(good, "X-Delivery:", "X-Delivery :", 1), 400},
		"folded header":          {strings.Replace(good, "X-Delivery: d", "X-Delivery: d\r\n e", 1), 200},
		"bad chunk size":         {strings.Replace(string(chunked.raw()), "\r\n26\r\n", "\r\nzz\r\n", 1), 400},
		"no host":                {strings.Replace(good, "Host: hooks.example.com\r\n", "", 1), 400},
		"two hosts":              {strings.Replace(good, "Host: ", "Host: a\r\nHost: ", 1), 400},
		"another protocol":       {strings.Replace(good, "HTTP/1.1", "HTTP/3.0", 1), 400},
		"HTTP/2 without asking":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"HTTP/2 by upgrade":      {strings.Replace(good, "Host: ", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nHost: ", 1), 200},
		"asterisk":               {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404},
		"long header":            {strings.Replace(good, "Host: ", "X: "+strings.Repeat("a", 40<<10)+"\r\nHost: ", 1), 431},
	} {
		if tt.request == good {
			t.Fatalf("%s: the request was not changed", name)
		}
		w := f.dial()
		w.write(tt.request)
		line, err := w.in.ReadString('\n') // net/http resets the connection behind some of its own answers
		if want := fmt.Sprintf("HTTP/1.1 %d ", tt.want); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: answered %q, %v, want %d", name, line, err, tt.want)
		}
	}
	if got := f.stored(); got != 1 { // the folded header's, and the same on HTTP/1.1 in spite of an offered upgrade
		t.Errorf("%d messages stored, want 1", got)
	}
}

// Promise 10: who sends slowly loses the connection, not everybody's patience.
func TestSlowRequestsEnd(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.ReadTimeout = 300 * time.Millisecond })
	f.run()
	body := f.dial()
	rest := body.inHand(f.delivery("orders", "d", goodBody))
	body.write(rest[:5])
	header := f.dial()
	header.write("POST /v1/orders HTTP/1.1\r\nHost: ")
	if r := body.answer(); r.StatusCode != http.StatusRequestTimeout || !r.Close {
		t.Errorf("slow body: answered %s, close %t, want 408 and a close", r.Status, r.Close)
	}
	if !body.ended() || !header.ended() {
		t.Error("a slow sender's connection is still open")
	}
	if got := f.stored(); got != 0 {
		t.Errorf("%d messages stored, want none", got)
	}
}

// Promise 10: no more requests are in hand than there is room for.
func TestCrowdIsAskedToComeAgain(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.MaxInFlight = 1 })
	f.run()
	slow := f.dial()
	rest := slow.inHand(f.delivery("orders", "first", goodBody))
	other := f.dial()
	d := f.delivery("orders", "second", goodBody)
	other.write(string(d.raw()))
	if r := other.answer(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("with no room: answered %s, Retry-After %q, want 503", r.Status, r.Header.Get("Retry-After"))
	}
	slow.write(rest)
	if r := slow.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("the one in hand: answered %s, want 200", r.Status)
	}
	eventually(t, "room again", func() bool { return f.send(d).code == http.StatusOK })
}

// Stopping finishes what is in hand: the request is stored and answered 200,
// although the service has closed its door meanwhile.
func TestStoppingFinishesTheRequestInHand(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.run()
	addr := f.service.Addr()
	w := f.dial()
	rest := w.inHand(f.delivery("orders", "d", goodBody))
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	eventually(t, "no more connections", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("Run() = %v with a request in hand", err)
	default:
	}
	w.write(rest)
	if r := w.answer(); r.StatusCode != http.StatusOK || !r.Close {
		t.Errorf("answered %s, close %t, want 200 and a close", r.Status, r.Close)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
	if r := f.send(f.delivery("orders", "late", goodBody+" ")); r.code != http.StatusServiceUnavailable {
		t.Errorf("after the end: answered %+v, want 503", r)
	}
}

// A request that never ends doesn't keep the service from ending.
func TestStoppingIsBounded(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.DrainTimeout, c.ReadTimeout = 200*time.Millisecond, time.Minute })
	stop := f.run()
	w := f.dial()
	w.inHand(f.delivery("orders", "d", goodBody))
	began := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if took := time.Since(began); took > 30*time.Second { // read_timeout is a minute
		t.Errorf("stopping took %s", took)
	}
	if !strings.Contains(f.log.String(), "requests cut off") {
		t.Errorf("the log doesn't say what was cut off: %s", f.log)
	}
}

// A new connection on which nothing has come is no request that was cut off, although
// net/http waits for it.
func TestStoppingTellsOfRequestsAlone(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *ingress.Config) { c.DrainTimeout = 100 * time.Millisecond })
	stop := f.run()
	f.dial()
	w := f.dial() // accepted after the silent one
	w.write(string(f.delivery("orders", "d", goodBody).raw()))
	if r := w.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("answered %s", r.Status)
	}
	if err := stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if strings.Contains(f.log.String(), "requests cut off") {
		t.Errorf("the log tells of requests that weren't there: %s", f.log)
	}
}

func TestHealthyTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if err := f.service.Healthy(ctx); err == nil || f.service.Addr() != "" {
		t.Errorf("before Run: Healthy() = %v, Addr() = %q", err, f.service.Addr())
	}
	stop := f.run()
	if err := f.service.Healthy(ctx); err != nil {
		t.Errorf("running: Healthy() = %v", err)
	}
	f.server.Stop()
	eventually(t, "unhealthy without a server", func() bool { return f.service.Healthy(ctx) != nil })
	f.server.Resume()
	eventually(t, "healthy again", func() bool { return f.service.Healthy(ctx) == nil })
	js := f.jetstream()
	if err := js.DeleteStream(ctx, topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	if err := f.service.Healthy(ctx); err == nil {
		t.Error("without the stream: Healthy() = nil")
	}
	if err := stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if err := f.service.Healthy(ctx); err == nil {
		t.Error("after the end: Healthy() = nil")
	}
}

func TestRunSaysWhenItCantListen(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	f := setup(t, func(c *ingress.Config) { c.Listen = taken.Addr().String() })
	if err := f.service.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ingress.listen") {
		t.Errorf("Run() = %v, want that the address is taken", err)
	}
}
