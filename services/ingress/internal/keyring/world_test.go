package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
)

// authority issues certificates that the tests trust.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKeys are made once: they take time.
var rsaKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	keys := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{1024, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		keys[bits] = k
	}
	return keys
})

// issue makes a certificate; the authority's own if a is nil.
func (a *authority) issue(t testing.TB, public crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func asAuthority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: name}, true, x509.KeyUsageCertSign, nil
	}
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0), BasicConstraintsValid: true}
	asAuthority(name)(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// below is an authority that a has made one.
func (a *authority) below(t testing.TB, change func(*x509.Certificate)) *authority {
	t.Helper()
	b := &authority{key: newKey(t)}
	b.cert = a.issue(t, b.key.Public(), func(c *x509.Certificate) {
		asAuthority("Intermediate")(c)
		change(c)
	})
	return b
}

func forHost(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{CommonName: name}, []string{name} }
}

func asPEM(certs ...*x509.Certificate) string {
	text := ""
	for _, c := range certs {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return text
}

// world is the network as a ring sees it: every host is this one server, which
// has a certificate for each that a trusted authority issued.
type world struct {
	t      testing.TB
	root   *authority
	secure *httptest.Server
	plain  *httptest.Server
	handle func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex // guards those below
	calls []string   // host and path of each
	clock time.Time
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, root: newAuthority(t, "Root"), clock: now}
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.calls = append(w.calls, r.Host+r.URL.Path)
		handle := w.handle
		w.mu.Unlock()
		handle(rw, r)
	})
	w.plain = httptest.NewServer(handler)
	t.Cleanup(w.plain.Close)
	w.secure = httptest.NewUnstartedServer(handler)
	key := newKey(t)
	w.secure.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := w.root.issue(t, key.Public(), func(c *x509.Certificate) {
			forHost(hello.ServerName)(c)
			c.NotBefore = time.Unix(0, 0) // the connection has the real time
		})
		return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}, nil
	}}
	w.secure.StartTLS()
	t.Cleanup(w.secure.Close)
	return w
}

// answers has every request answered alike.
func (w *world) answers(status int, body string) {
	w.serve(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte(body))
	})
}

func (w *world) serve(handle func(http.ResponseWriter, *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = handle
}

func (w *world) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) deps() keyring.Deps {
	roots := x509.NewCertPool()
	roots.AddCert(w.root.cert)
	return keyring.Deps{
		Roots: roots,
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.clock
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := w.secure.Listener.Addr().String()
			if _, port, _ := net.SplitHostPort(address); port == "80" {
				to = w.plain.Listener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
}

// ring is one for a preset in this world.
func (w *world) ring(preset string, more string) *keyring.Ring {
	w.t.Helper()
	return w.ringWith(preset, more, w.deps())
}

func (w *world) ringWith(preset, more string, deps keyring.Deps) *keyring.Ring {
	w.t.Helper()
	s := &provider.Source{}
	err := config.Decode("source.yaml", []byte("preset: "+preset+"\n"+more), s, config.WithLookupEnv(func(string) (string, bool) {
		return "a value of enough length", true
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := keyring.New(keyring.Config{Source: "it", Algorithm: s.Verify.Algorithm, Keys: s.SenderKeys, API: s.API}, deps)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Close)
	return r
}
