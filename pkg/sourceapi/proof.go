package sourceapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/provider"
)

// proof is what the requests with one credential prove themselves with.
type proof struct {
	http   *http.Client
	own    bool        // http is this credential's alone
	header http.Header // of every request
	query  url.Values  // of every request
	tokens *tokens     // or nil
}

// newProof makes a proof of what is configured. The error quotes no secret.
func (c *Client) newProof(account string, auth provider.Auth) (*proof, error) {
	p := &proof{http: c.http, query: url.Values{}}
	var err error
	if p.header, err = headers(auth); err != nil {
		return nil, err
	}
	for name, value := range auth.Query {
		p.query.Set(name, value.Reveal())
	}
	if auth.TLS != nil {
		transport := egress.Transport(c.connect)
		if transport.TLSClientConfig, err = clientTLS(*auth.TLS); err != nil {
			return nil, err
		}
		p.http, p.own = &http.Client{CheckRedirect: c.redirect, Transport: transport}, true
	}
	// Token requests go out as all others do, but follow no redirect.
	asker := &http.Client{Transport: p.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errElsewhere }}
	switch {
	case auth.OAuth != nil:
		p.tokens, err = c.newOAuth(account, *auth.OAuth, asker)
	case auth.App != nil:
		p.tokens, err = c.newApp(*auth.App, asker)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *proof) close() {
	if p.own {
		p.http.CloseIdleConnections()
	}
}

// headers are those of every request, the credentials among them.
func headers(auth provider.Auth) (http.Header, error) {
	h := http.Header{"Accept": {"application/json"}, "User-Agent": {"tercel"}}
	several := 0
	for _, given := range []bool{!auth.Token.IsZero(), auth.Basic != nil, auth.OAuth != nil, auth.App != nil} {
		if given {
			several++
		}
	}
	if several > 1 {
		return nil, errors.New("want one of token, basic, oauth and app")
	}
	if !auth.Token.IsZero() {
		h.Set("Authorization", "Bearer "+auth.Token.Reveal())
	}
	if auth.Basic != nil {
		r := http.Request{Header: h}
		r.SetBasicAuth(auth.Basic.User, auth.Basic.Password.Reveal())
	}
	for name, value := range auth.Headers {
		h.Set(name, value.Reveal())
	}
	for name, values := range h {
		if !egress.ValidHeader(name, values[0]) {
			return nil, fmt.Errorf("header %q: has a character that can't be sent", name)
		}
	}
	return h, nil
}

// sendable reports whether a token can be sent in a header.
func sendable(token string) bool { return token != "" && egress.ValidHeader("Authorization", token) }

// apply puts the credential on a request and returns the token that it has, if
// its credential is one that is got.
func (p *proof) apply(ctx context.Context, req *http.Request) (token string, err error) {
	for name, values := range p.header {
		req.Header[name] = values
	}
	if len(p.query) > 0 {
		req.URL.RawQuery = strings.TrimPrefix(req.URL.RawQuery+"&"+p.query.Encode(), "&")
	}
	if p.tokens == nil {
		return "", nil
	}
	if token, err = p.tokens.get(ctx); err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return token, nil
}

// clientTLS reads a client certificate again for each connection, so that a new
// one counts from the next on. While its files don't fit each other, as in the
// moment between writing the one and the other, the last good one serves.
func clientTLS(cfg provider.ClientTLS) (*tls.Config, error) {
	var last atomic.Pointer[tls.Certificate]
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		last.Store(&pair)
		return &pair, nil
	}
	if _, err := read(); err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if pair, err := read(); err == nil {
			return pair, nil
		}
		return last.Load(), nil
	}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("tls: ca: no certificate in it")
		}
	}
	return conf, nil
}
