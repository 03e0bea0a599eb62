package ingress_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/ingress"
)

// crowd has room for four connections, more patience than a test has, and none at
// the end.
func crowd(c *ingress.Config) {
	c.MaxInFlight, c.ReadTimeout, c.DrainTimeout = 1, 10*time.Minute, 100*time.Millisecond
}

// Promise 10: connections are bounded, and of those that wait for a request the one
// that has waited longest makes room for the next.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	f := setup(t, crowd)
	f.run()
	request := string(f.delivery("orders", "d", goodBody).raw())
	silent := make([]*wire, 4)
	for i := range silent {
		silent[i] = f.dial()
		silent[i].write(request[:len(request)/2])
	}
	for i := range silent {
		next := f.dial()
		next.write(request)
		if r := next.answer(); r.StatusCode != http.StatusOK {
			t.Fatalf("one connection more: answered %s, want 200", r.Status)
		}
		if _, err := io.ReadAll(silent[i].in); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still open", i)
		}
	}
	last := f.dial() // those that are open have all been served, and say nothing more
	last.write(request)
	if r := last.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("with idle connections: answered %s, want 200", r.Status)
	}
}

// Promise 10: a flood takes the places of its own connections, however fast it comes.
// What somebody else keeps open stays so.
func TestAFloodDisplacesItself(t *testing.T) {
	t.Parallel()
	f := setup(t, crowd)
	f.run()
	neighbour := f.dial()
	request := string(f.delivery("orders", "d", goodBody).raw())
	neighbour.write(request)
	if r := neighbour.answer(); r.StatusCode != http.StatusOK {
		t.Fatalf("answered %s", r.Status)
	}
	flood := make([]*wire, 12)
	for i := range flood {
		flood[i] = f.dialFrom("127.0.0.2")
	}
	for i, c := range flood[:len(flood)-3] {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d of the flood is open yet: %v", i, err)
		}
	}
	neighbour.write(request)
	if r := neighbour.answer(); r.StatusCode != http.StatusOK {
		t.Errorf("over the connection that was there before: answered %s", r.Status)
	}
}

// A connection with a request in hand is not one that waits, encrypted or not: nothing
// closes it, and others make room for each other until it is done.
func TestRequestsInHandKeepTheirConnections(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*ingress.Config)
		dial   func(*fixture) *wire
		silent string // how those begin that say nothing more
	}{
		"plain":     {func(*ingress.Config) {}, (*fixture).dial, "POST /v1/ord"},
		"encrypted": {encrypted(t), (*fixture).dialTLS, "\x16\x03"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, crowd, tt.change)
			f.run()
			slow := tt.dial(f)
			rest := slow.inHand(f.delivery("orders", "first", goodBody))
			var silent []*wire
			for range 8 {
				w := f.dial()
				w.write(tt.silent)
				silent = append(silent, w)
			}
			for i, w := range silent[:5] { // there is room for three beside it
				if _, err := io.ReadAll(w.in); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("silent connection %d is still open", i)
				}
			}
			slow.write(rest)
			if r := slow.answer(); r.StatusCode != http.StatusOK {
				t.Errorf("the one in hand: answered %s, want 200", r.Status)
			}
		})
	}
}

// encrypted has the service speak TLS.
func encrypted(t *testing.T) func(*ingress.Config) {
	t.Helper()
	dir := t.TempDir()
	paths := pipeline.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, key := certificate(t, 1)
	replace(t, paths.Cert, string(cert))
	replace(t, paths.Key, string(key))
	return func(c *ingress.Config) { c.TLS = paths }
}

// dialTLS is dial to a service that speaks TLS.
func (f *fixture) dialTLS() *wire {
	f.t.Helper()
	w := f.dial()
	w.Conn = tls.Client(w.Conn, &tls.Config{InsecureSkipVerify: true})
	w.in.Reset(w.Conn)
	return w
}

// Promise 10: what is refused before its body was read is not waited for as long as
// what counts.
func TestRefusedBodiesDontLinger(t *testing.T) {
	t.Parallel()
	f := setup(t, crowd)
	f.run()
	d := f.delivery("orders", "d", goodBody)
	d.path = "/v1/nobody"
	refused := string(d.raw())
	stuck := make([]*wire, 4)
	for i := range stuck {
		stuck[i] = f.dial()
		stuck[i].write(refused[:len(refused)-5])
	}
	for i, w := range stuck {
		if r := w.answer(); r.StatusCode != http.StatusNotFound || !r.Close || !w.ended() {
			t.Errorf("connection %d: answered %s, close %t, want 404 and an end", i, r.Status, r.Close)
		}
	}
}

// Promise 10: nor is a body that an answered handshake announces, and has no use for.
func TestBodiesOfHandshakesDontLinger(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, shaking), crowd)
	f.run()
	for name, path := range map[string]string{"answered": "/v1/files?challenge=x", "without one": "/v1/files"} {
		w := f.dial()
		w.write("GET " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
		if r := w.answer(); (r.StatusCode == http.StatusOK) != (name == "answered") || !r.Close || !w.ended() {
			t.Errorf("%s: answered %s, close %t, want an end", name, r.Status, r.Close)
		}
	}
}

// What net/http calls an error of the server's is the sender's, encrypted or not.
func TestUnreadableRequestsAreTheSendersFault(t *testing.T) {
	t.Parallel()
	f := setup(t, encrypted(t))
	f.run()
	good := string(f.delivery("orders", "d", goodBody).raw())
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"another version": {strings.Replace(good, "HTTP/1.1", "HTTP/3.0", 1), 400},
		"unknown coding":  {strings.Replace(good, "Content-Length: ", "Transfer-Encoding: gzip, chunked\r\nX-Length: ", 1), 400},
		"a good one":      {good, 200},
	} {
		w := f.dialTLS()
		w.write(tt.request)
		if r := w.answer(); r.StatusCode != tt.want {
			t.Errorf("%s: answered %s, want %d", name, r.Status, tt.want)
		}
	}
}

// Who speaks plain HTTP to a service that speaks TLS is told so. Who says nothing isn't
// worth a line.
func TestPlainHTTPIsToldThatTLSIsSpoken(t *testing.T) {
	t.Parallel()
	f := setup(t, encrypted(t))
	f.run()
	gone := f.dial()
	_ = gone.Close()
	w := f.dial()
	w.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	text, err := io.ReadAll(w.in)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 400 ") || !strings.Contains(string(text), "HTTPS") {
		t.Errorf("answered %q, %v, want 400 and why", text, err)
	}
	eventually(t, "a line of the log", func() bool { return strings.Contains(f.log.String(), "TLS handshake error") })
	if got := strings.Count(f.log.String(), "TLS handshake error"); got != 1 {
		t.Errorf("%d lines, want one of plain HTTP:\n%s", got, f.log)
	}
}
