package access

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Guard refuses requests that a browser sends for another site: with the method
// of a change from another origin, or, where no token is needed, to a name that
// isn't the machine's own (a name that an attacker has pointed at it). There are
// no CORS headers, so that other sites' scripts can't read an answer either.
func (g *Gate) Guard(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	own := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.open && !loopbackHost(r.Host) {
			http.Error(w, "the console takes requests without a token under localhost and loopback addresses only", http.StatusMisdirectedRequest)
			return
		}
		own.ServeHTTP(w, r)
	})
}

// loopbackHost reports whether a Host header names the machine itself.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Bearer returns the token of a request's Authorization header, or "".
func Bearer(h http.Header) string {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Address is where a request came from.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// callerKey finds the caller in a context. HTTP handlers and what they call have
// no other way to hand on what belongs to a request.
type callerKey struct{}

// With returns a context of requests by a caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// ErrNobody is returned by [From] for a context that is of no caller's request.
var ErrNobody = errors.New("nobody has been let in")

// From returns the caller of a request, or [ErrNobody].
func From(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, ErrNobody
	}
	return c, nil
}
