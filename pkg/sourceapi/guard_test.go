package sourceapi_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// Every spelling of an address that is not public is refused before anything
// is sent, and once and for all.
func TestGuardRefusesBeforeDialing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		host         string
		allowPrivate bool
		hint         bool
	}{
		"loopback":                          {"127.0.0.1:1", false, true},
		"a private network":                 {"10.1.2.3", false, true},
		"IPv4 in IPv6":                      {"[::ffff:127.0.0.1]:1", false, true},
		"localhost by name":                 {"localhost:1", false, true},
		"a metadata service":                {"169.254.169.254", false, false},
		"a metadata service, on premises":   {"169.254.169.254", true, false},
		"the unspecified, on premises":      {"0.0.0.0:1", true, false},
		"multicast, on premises":            {"[ff02::1]:1", true, false},
		"IPv6 metadata, on premises":        {"[fd00:ec2::254]", true, false},
		"metadata through NAT, on premises": {"[64:ff9b::a9fe:a9fe]", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := api("https://" + tt.host)
			cfg.AllowPrivate = tt.allowPrivate
			_, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/", nil)
			if !fault.IsPermanent(err) || strings.Contains(err.Error(), "allow_private") != tt.hint {
				t.Errorf("Get() = %v, want a permanent error that mentions allow_private %t", err, tt.hint)
			}
		})
	}
}

// A name that leads to a public address when it is checked and to this machine
// when it is dialed gains nothing: the check is at the dial.
func TestGuardIsNotFooledByRebinding(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	s.Config.ConnState = func(net.Conn, http.ConnState) { reached.Add(1) }
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := startNames(t, netip.MustParseAddr("127.0.0.1"))
	cfg := api("https://rebound.example.com:" + port)
	cfg.AllowPrivate = false
	_, err = newClient(t, cfg, sourceapi.Deps{Resolver: names.resolver}).Get(t.Context(), "/", nil)
	if !fault.IsPermanent(err) || !strings.Contains(err.Error(), "127.0.0.1 is not a public address: set allow_private") {
		t.Errorf("Get() = %v, want a permanent error", err)
	}
	if names.asked.Load() == 0 || reached.Load() > 0 {
		t.Errorf("name server asked %d times, server reached %d times, want some and none", names.asked.Load(), reached.Load())
	}
}

func TestNameOnPremisesIsReachedWhenAllowed(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := startNames(t, netip.MustParseAddr("127.0.0.1"))
	c := newClient(t, api("http://orders.example.com:"+port), sourceapi.Deps{Resolver: names.resolver})
	if _, err = c.Get(t.Context(), "/", nil); err != nil {
		t.Error(err)
	}
}

// A proxy named in the environment would see the credentials and dial for us.
func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	var proxied atomic.Int32
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { proxied.Add(1) })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Not a loopback name: those bypass any proxy.
	names := startNames(t, netip.MustParseAddr("127.0.0.1"))
	c := newClient(t, api("http://orders.example.com:"+port), sourceapi.Deps{Resolver: names.resolver})
	if _, err := c.Get(t.Context(), "/", nil); err != nil || proxied.Load() > 0 {
		t.Errorf("Get() = %v with %d requests through the proxy, want none", err, proxied.Load())
	}
}

// names is a name server that gives every name one address.
type names struct {
	resolver *net.Resolver
	asked    atomic.Int32
}

func startNames(t *testing.T, addr netip.Addr) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			n.asked.Add(1)
			_, _ = conn.WriteTo(nameAnswer(buf[:size], addr), from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	n.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return n
}

// nameAnswer answers a query (RFC 1035) of type A with addr and of any other
// type with nothing.
func nameAnswer(query []byte, addr netip.Addr) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root label, type and class
	if len(query) < end {
		return nil
	}
	answer := append([]byte(nil), query[:end]...)
	copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a response; one question
	if binary.BigEndian.Uint16(query[end-4:]) != 1 {
		return answer
	}
	answer[7] = 1
	answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the name again, A, IN, no TTL
	return append(answer, addr.AsSlice()...)
}
