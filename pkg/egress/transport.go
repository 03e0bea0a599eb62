// Package egress is how Tercel calls HTTP servers that an operator named: the
// APIs of sources and destinations that take webhooks.
//
// The address of each connection is checked after name resolution, so that no
// name leads to a metadata service or, unless allowed, into the owner's own
// networks. No proxy of the environment sees what is sent. Errors are told in
// words of our own: those of net/http may quote a URL with its query, or what
// the server sent.
package egress

import (
	"net"
	"net/http"
	"time"
)

// Config is how a [Transport] connects.
type Config struct {
	// AllowPrivate permits addresses of this machine and of private networks.
	AllowPrivate bool
	// Connections is how many idle connections are kept to a server.
	Connections int
	// Resolver looks names up. Defaults to net.DefaultResolver.
	Resolver *net.Resolver
}

// Transport returns a transport whose connections are guarded. An address that
// is not allowed is a [RefusedError].
func Transport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: cfg.Resolver, Control: guard(cfg.AllowPrivate)}
	return &http.Transport{
		Proxy:       nil, // one of the environment would see the credentials and dial for us
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: cfg.Connections, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
}
