package egress_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
)

func TestGuardKnowsWhereAddressesLead(t *testing.T) {
	t.Parallel()
	for want, addrs := range map[string][]string{
		"public": {
			"93.184.215.14", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
			"192.167.255.255", "192.169.0.0", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::8", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",
			"2002:101:101::1",
		},
		"private": {
			"127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
			"::1", "fc00::1", "fdff::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
			"2002:a00:1::", "2002:c0a8:101::1",
		},
		"never": {
			"0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.170.2", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1",
			"203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200",
			"::", "::7f00:1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::", "100::1",
			"2001::1", "2001:db8::1", "3fff::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1", "4000::1",
		},
	} {
		for _, a := range addrs {
			if got := egress.Reach(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s leads to %q, want %q", a, got, want)
			}
		}
	}
}

// call makes one request and returns its error as it is told.
func call(t *testing.T, cfg egress.Config, timeout time.Duration, url string) (told error, again bool) {
	t.Helper()
	transport := egress.Transport(cfg)
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
		return nil, false
	}
	return egress.Failure(ctx, err)
}

func TestPrivateAddressesAreCalledOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	err, again := call(t, egress.Config{}, time.Minute, s.URL+"/?secret=1")
	var refused *egress.RefusedError
	if !errors.As(err, &refused) || !refused.Private || !fault.IsPermanent(err) || again {
		t.Errorf("Failure() = %v, %t, want a permanent RefusedError", err, again)
	}
	if err, _ := call(t, egress.Config{AllowPrivate: true}, time.Minute, s.URL); err != nil {
		t.Error(err)
	}
}

// What a failure says holds nothing of the request (promise 9).
func TestPromise9FailuresAreToldInOurWords(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-hang })
	mux.HandleFunc("/close", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s, tls := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(tls.Close)
	t.Cleanup(func() { close(hang) })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + gone.Addr().String()
	_ = gone.Close()
	tests := map[string]struct {
		url, want string
		timeout   time.Duration
		again     bool
	}{
		"nobody listens":        {nobody, "connection refused", time.Minute, true},
		"no answer in time":     {s.URL + "/hang", "no complete answer in time", 50 * time.Millisecond, false},
		"closed":                {s.URL + "/close", "connection closed before", time.Minute, true},
		"unknown certificate":   {tls.URL, "certificate not accepted", time.Minute, false},
		"TLS to a plain server": {strings.Replace(s.URL, "http", "https", 1), "broken HTTP exchange", time.Minute, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err, again := call(t, egress.Config{AllowPrivate: true}, tt.timeout, tt.url+"?secret=1")
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") || again != tt.again || fault.IsPermanent(err) {
				t.Errorf("Failure() = %v, %t, want %q, %t", err, again, tt.want, tt.again)
			}
		})
	}
}
