// Package nettest is the internet of a test: one real server that is every host,
// and an authority that has issued each its certificate.
package nettest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Start and End are between when certificates are valid, unless a test says
// otherwise.
var (
	Start = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	End   = time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Key returns a new key of P-256.
func Key(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Authority issues certificates.
type Authority struct {
	// Cert is its own certificate.
	Cert *x509.Certificate
	// Key is what it signs with.
	Key crypto.Signer
}

// NewAuthority returns one that has issued its certificate itself.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{Key: Key(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: Start, NotAfter: End, BasicConstraintsValid: true}
	asAuthority(template, name)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.Key.Public(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func asAuthority(c *x509.Certificate, name string) {
	c.Subject, c.IsCA, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: name}, true, x509.KeyUsageCertSign, nil
}

// Issue returns a certificate for a public key, as change has it.
func (a *Authority) Issue(t testing.TB, public crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, NotBefore: Start, NotAfter: End, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, a.Cert, public, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// Below returns an authority whose certificate a has issued, as change has it.
func (a *Authority) Below(t testing.TB, change func(*x509.Certificate)) *Authority {
	t.Helper()
	b := &Authority{Key: Key(t)}
	b.Cert = a.Issue(t, b.Key.Public(), func(c *x509.Certificate) {
		asAuthority(c, "Intermediate")
		change(c)
	})
	return b
}

// ForHost has a certificate be that of a host.
func ForHost(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{CommonName: name}, []string{name} }
}

// PEM returns certificates as a text.
func PEM(certs ...*x509.Certificate) string {
	text := ""
	for _, c := range certs {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return text
}

// World is every host: port 443 of each speaks TLS with its certificate, port 80
// doesn't. It is safe for concurrent use.
type World struct {
	// Root has issued the certificates of all hosts.
	Root *Authority

	secure, plain *httptest.Server

	mu     sync.Mutex // guards those below
	handle http.HandlerFunc
	calls  []string
}

// New returns a world that lives as long as t, and answers everything with 404.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{Root: NewAuthority(t, "Root"), handle: http.NotFound}
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.calls = append(w.calls, r.Host+r.URL.RequestURI())
		handle := w.handle
		w.mu.Unlock()
		handle(rw, r)
	})
	w.plain = httptest.NewServer(handler)
	t.Cleanup(w.plain.Close)
	w.secure = httptest.NewUnstartedServer(handler)
	key := Key(t)
	w.secure.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := w.Root.Issue(t, key.Public(), ForHost(hello.ServerName))
		return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}, nil
	}}
	w.secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that don't trust it, which tests want
	w.secure.StartTLS()
	t.Cleanup(w.secure.Close)
	return w
}

// Serve has h answer from now on.
func (w *World) Serve(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = h
}

// Answer has every request answered alike.
func (w *World) Answer(status int, body string) {
	w.Serve(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte(body))
	})
}

// Redirect has every request redirected.
func (w *World) Redirect(to string) {
	w.Serve(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, to, http.StatusFound) })
}

// Calls returns host, path and query of each request so far.
func (w *World) Calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// Roots returns a pool of the root, and of more of them.
func (w *World) Roots(more ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range append(more, w.Root.Cert) {
		pool.AddCert(c)
	}
	return pool
}

// Dial connects to the world, whatever the address.
func (w *World) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := w.secure.Listener.Addr().String()
	if _, port, _ := net.SplitHostPort(address); port == "80" {
		to = w.plain.Listener.Addr().String()
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// Port returns the port that speaks TLS, on loopback.
func (w *World) Port() string {
	_, port, _ := net.SplitHostPort(w.secure.Listener.Addr().String())
	return port
}
