package blame_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/blame"
)

// What can't be read is answered as the sender's fault, once; what can is untouched.
func TestUnreadableRequestsAreTheSendersFault(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "HTTP/1.1 501 is text here") }))
	srv.Listener = blame.Listener(srv.Listener, log.New(io.Discard, "", 0))
	srv.Start()
	t.Cleanup(srv.Close)
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"another version":   {"GET / HTTP/9.9\r\nHost: a\r\n\r\n", http.StatusBadRequest},
		"an unknown coding": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", http.StatusBadRequest},
		"a good one":        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(c)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.want || len(body) == 0 || !resp.Close {
				t.Errorf("answered %s, %q, %v, close %t, want %d and an end", resp.Status, body, err, resp.Close, tt.want)
			}
		})
	}
}

// halved is a listener whose connections tell when their writing side is closed.
type halved struct {
	net.Listener
	told chan struct{}
}

func (l halved) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return half{c, l.told}, err
}

type half struct {
	net.Conn
	told chan struct{}
}

func (c half) CloseWrite() error {
	c.told <- struct{}{}
	return nil
}

// Who counts connections below TLS learns, too, that one has its last answer.
func TestTheEndOfAnswersIsToldBelowTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil)
	t.Cleanup(certified.Close)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	below := halved{srv.Listener, make(chan struct{}, 1)}
	srv.Listener = blame.Listener(tls.NewListener(below, &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS13}), log.New(io.Discard, "", 0))
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{RootCAs: certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nand no more"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Fatalf("answered %v, %v, want 404", resp, err)
	}
	select {
	case <-below.told:
	case <-time.After(time.Minute):
		t.Error("a minute later the connection below had been told nothing")
	}
}

// What a handler answers is left as it is, whatever its status and its words.
func TestAnswersOfHandlersAreUntouched(t *testing.T) {
	t.Parallel()
	const text = "HTTP/1.1 501 is the first thing that is written here"
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotImplemented)
		_ = http.NewResponseController(w).Flush() // so that the text begins a write of its own
		_, _ = io.WriteString(w, text)
	}))
	srv.Listener = blame.Listener(srv.Listener, log.New(io.Discard, "", 0))
	srv.Start()
	t.Cleanup(srv.Close)
	client := srv.Client()
	client.Timeout = time.Minute
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusNotImplemented || string(body) != text {
		t.Errorf("answered %s, %q, %v, want 501 and what was written", resp.Status, body, err)
	}
}
