package keyring

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

const (
	maxChain   = 8 // certificates in one answer
	maxIssuers = 2 // that are fetched, up to a root
)

// fetchCertificate gets the key in the certificate at a URL that is one of the
// sender's.
func (r *Ring) fetchCertificate(ctx context.Context, at string) (*held, error) {
	a, err := r.get(ctx, at)
	switch {
	case err != nil:
		return nil, err
	case a.gone():
		return nil, unknown("the sender has no certificate there")
	case a.status != http.StatusOK:
		return nil, unavailable(fmt.Sprintf("answered with status %d, want 200", a.status))
	}
	chain, err := parseChain(a.body)
	if err != nil {
		return nil, unavailable(err.Error())
	}
	return r.accept(ctx, chain)
}

// parseChain reads certificates in PEM, the sender's own first, or one in DER.
func parseChain(doc []byte) ([]*x509.Certificate, error) {
	if c, err := x509.ParseCertificate(doc); err == nil {
		return []*x509.Certificate{c}, nil
	}
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, doc = pem.Decode(doc); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(chain) == maxChain {
			return nil, fmt.Errorf("the answer has something else than up to %d certificates", maxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the answer has a broken certificate")
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the answer has no certificate")
	}
	return chain, nil
}

// accept checks that a certificate is the sender's and good, and takes its key.
func (r *Ring) accept(ctx context.Context, chain []*x509.Certificate) (*held, error) {
	own, now := chain[0], r.deps.Now()
	switch {
	case now.Before(own.NotBefore):
		return nil, unknown("the certificate isn't valid yet")
	case now.After(own.NotAfter):
		return nil, unknown("the certificate has expired")
	case !r.isForSender(own):
		return nil, unknown("the certificate is for another host")
	}
	key, err := signature.NewSenderKey(r.cfg.Algorithm, own.PublicKey)
	if err != nil {
		return nil, unknown(err.Error())
	}
	until, err := r.verify(ctx, chain, now)
	if err != nil {
		return nil, err
	}
	return &held{key: key, refresh: earlier(until, now.Add(keptFor)), until: until}, nil
}

func (r *Ring) isForSender(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.DNSNames, func(name string) bool {
		return slices.ContainsFunc(r.cfg.Keys.Certificates.Hosts, func(h provider.HostPattern) bool { return h.Matches(name) })
	})
}

// verify looks for a way from the first certificate to a root, and returns when
// the first certificate on it ends. Senders publish their own certificate alone,
// so that the issuer's has to be had from where the certificate says. That place
// isn't the sender's, and needn't be: what it has either fits or is of no use.
func (r *Ring) verify(ctx context.Context, chain []*x509.Certificate, now time.Time) (time.Time, error) {
	opts := x509.VerifyOptions{
		Roots: r.deps.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	last := chain[len(chain)-1]
	for fetched := 0; ; fetched++ {
		ways, err := chain[0].Verify(opts)
		if err == nil {
			return end(ways[0]), nil
		}
		var noIssuer x509.UnknownAuthorityError
		if !errors.As(err, &noIssuer) || fetched == maxIssuers || len(last.IssuingCertificateURL) == 0 {
			return time.Time{}, unknown("the certificate isn't one that a trusted authority issued")
		}
		if last, err = r.fetchIssuer(ctx, last.IssuingCertificateURL[0]); err != nil {
			return time.Time{}, err
		}
		opts.Intermediates.AddCert(last)
	}
}

func end(way []*x509.Certificate) time.Time {
	until := way[0].NotAfter
	for _, c := range way[1:] {
		until = earlier(until, c.NotAfter)
	}
	return until
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// fetchIssuer gets an authority's certificate (RFC 5280, section 4.2.2.1), mostly
// by plain HTTP. The URL comes from a certificate that was had from the sender's
// own host, and the guard keeps it out of private networks.
func (r *Ring) fetchIssuer(ctx context.Context, at string) (*x509.Certificate, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Port() != "" {
		return nil, unknown("the certificate's issuer is nowhere to be had")
	}
	a, err := r.get(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("issuer of the certificate: %w", err)
	}
	if a.status != http.StatusOK {
		return nil, unavailable(fmt.Sprintf("issuer of the certificate: status %d, want 200", a.status))
	}
	chain, err := parseChain(a.body)
	if err != nil {
		return nil, unavailable("issuer of the certificate: " + err.Error())
	}
	return chain[0], nil
}
