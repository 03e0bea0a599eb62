package keyring_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
	"github.com/tercelhq/tercel/services/ingress/internal/nettest"
)

const (
	certURL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem"
	topic   = "secrets: [env:TOPIC]\n"
)

// A certificate is taken if it is in time, for the sender, strong, and issued by
// somebody whom the system trusts. What can't be told is told from what is wrong.
func TestWhichCertificatesAreTheSenders(t *testing.T) {
	t.Parallel()
	public := strong()
	tests := map[string]struct {
		serve func(t *testing.T, w *world)
		want  error
	}{
		"one that a root has issued": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, nettest.ForHost("sns.amazonaws.com"))))
		}, nil},
		"with its issuer behind it": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(*x509.Certificate) {})
			w.Answer(200, nettest.PEM(below.Issue(t, public, nettest.ForHost("sns.amazonaws.com")), below.Cert))
		}, nil},
		"with its issuer elsewhere": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(*x509.Certificate) {})
			w.serveByHost(map[string]string{
				"crt.example.com":             string(below.Cert.Raw),
				"sns.us-east-1.amazonaws.com": nettest.PEM(below.Issue(t, public, issuedAt("http://crt.example.com/below.cer"))),
			})
		}, nil},
		"with two issuers elsewhere": {func(t *testing.T, w *world) {
			upper := w.Root.Below(t, func(*x509.Certificate) {})
			lower := upper.Below(t, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://upper.example.com/upper.cer"} })
			w.serveByHost(map[string]string{
				"upper.example.com":           string(upper.Cert.Raw),
				"crt.example.com":             string(lower.Cert.Raw),
				"sns.us-east-1.amazonaws.com": nettest.PEM(lower.Issue(t, public, issuedAt("http://crt.example.com/lower.cer"))),
			})
		}, nil},
		"with three issuers elsewhere": {func(t *testing.T, w *world) {
			a := w.Root.Below(t, func(*x509.Certificate) {})
			b := a.Below(t, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://a.example.com/"} })
			d := b.Below(t, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://b.example.com/"} })
			w.serveByHost(map[string]string{
				"a.example.com": string(a.Cert.Raw), "b.example.com": string(b.Cert.Raw), "d.example.com": string(d.Cert.Raw),
				"sns.us-east-1.amazonaws.com": nettest.PEM(d.Issue(t, public, issuedAt("http://d.example.com/"))),
			})
		}, keyring.ErrUnknown},
		"with an issuer that isn't there now": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(*x509.Certificate) {})
			w.serveByHost(map[string]string{
				"sns.us-east-1.amazonaws.com": nettest.PEM(below.Issue(t, public, issuedAt("http://crt.example.com/below.cer"))),
			})
		}, keyring.ErrUnavailable},
		"with an issuer at another port": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(*x509.Certificate) {})
			w.Answer(200, nettest.PEM(below.Issue(t, public, issuedAt("http://crt.example.com:6379/below.cer"))))
		}, keyring.ErrUnknown},
		"with an issuer in a file": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(*x509.Certificate) {})
			w.Answer(200, nettest.PEM(below.Issue(t, public, issuedAt("file:///etc/ssl/certs/ca.pem"))))
		}, keyring.ErrUnknown},
		"of an authority of one's own": {func(t *testing.T, w *world) {
			other := nettest.NewAuthority(t, "Other")
			w.Answer(200, nettest.PEM(other.Issue(t, public, nettest.ForHost("sns.amazonaws.com")), other.Cert))
		}, keyring.ErrUnknown},
		"issued by a server, not an authority": {func(t *testing.T, w *world) {
			key := nettest.Key(t)
			server := &nettest.Authority{Cert: w.Root.Issue(t, key.Public(), nettest.ForHost("sns.amazonaws.com")), Key: key}
			w.Answer(200, nettest.PEM(server.Issue(t, public, nettest.ForHost("sns.amazonaws.com")), server.Cert))
		}, keyring.ErrUnknown},
		"expired": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, func(c *x509.Certificate) {
				nettest.ForHost("sns.amazonaws.com")(c)
				c.NotAfter = now.Add(-time.Second)
			})))
		}, keyring.ErrUnknown},
		"not valid yet": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, func(c *x509.Certificate) {
				nettest.ForHost("sns.amazonaws.com")(c)
				c.NotBefore = now.Add(time.Minute)
			})))
		}, keyring.ErrUnknown},
		"of an issuer that has expired": {func(t *testing.T, w *world) {
			below := w.Root.Below(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
			w.Answer(200, nettest.PEM(below.Issue(t, public, nettest.ForHost("sns.amazonaws.com")), below.Cert))
		}, keyring.ErrUnknown},
		"for another host": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, nettest.ForHost("sns.us-east-1.amazonaws.com.example.com"))))
		}, keyring.ErrUnknown},
		"for all hosts of a bucket": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, nettest.ForHost("*.s3.amazonaws.com"))))
		}, keyring.ErrUnknown},
		"for nobody but by its common name": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, public, func(c *x509.Certificate) {
				nettest.ForHost("sns.amazonaws.com")(c)
				c.DNSNames = nil
			})))
		}, keyring.ErrUnknown},
		"RSA of 1024 bits": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, rsaKeys()[1024].Public(), nettest.ForHost("sns.amazonaws.com"))))
		}, keyring.ErrUnknown},
		"no RSA": {func(t *testing.T, w *world) {
			w.Answer(200, nettest.PEM(w.Root.Issue(t, nettest.Key(t).Public(), nettest.ForHost("sns.amazonaws.com"))))
		}, keyring.ErrUnknown},
		"a good one, and a megabyte": {func(_ *testing.T, w *world) { w.Answer(200, w.goodCertificate()+strings.Repeat("\n", 1<<20)) }, keyring.ErrUnavailable},
		"a good one, out of order":   {func(_ *testing.T, w *world) { w.Answer(500, w.goodCertificate()) }, keyring.ErrUnavailable},
		"a good one, as a CRL": {func(_ *testing.T, w *world) {
			w.Answer(200, strings.ReplaceAll(w.goodCertificate(), "CERTIFICATE", "X509 CRL"))
		}, keyring.ErrUnavailable},
		"gone":         {func(_ *testing.T, w *world) { w.Answer(404, "") }, keyring.ErrUnknown},
		"out of order": {func(_ *testing.T, w *world) { w.Answer(500, "") }, keyring.ErrUnavailable},
		"forbidden":    {func(_ *testing.T, w *world) { w.Answer(403, "") }, keyring.ErrUnavailable},
		"a page":       {func(_ *testing.T, w *world) { w.Answer(200, "<html>") }, keyring.ErrUnavailable},
		"nothing":      {func(_ *testing.T, w *world) { w.Answer(200, "") }, keyring.ErrUnavailable},
		"a private key": {func(_ *testing.T, w *world) {
			w.Answer(200, "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")
		}, keyring.ErrUnavailable},
		"a broken one": {func(_ *testing.T, w *world) {
			w.Answer(200, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
		}, keyring.ErrUnavailable},
		"a redirect":     {func(_ *testing.T, w *world) { w.Redirect("https://evil.example.com/x.pem") }, keyring.ErrUnavailable},
		"a redirect in":  {func(_ *testing.T, w *world) { w.Redirect("https://sns.us-east-1.amazonaws.com/other.pem") }, keyring.ErrUnavailable},
		"without an end": {func(_ *testing.T, w *world) { w.Serve(endless) }, keyring.ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.serve(t, w)
			r := w.ring("aws-sns", topic)
			if _, err := r.Key(t.Context(), certURL); !errors.Is(err, tt.want) {
				t.Errorf("Key() = %v, want %v", err, tt.want)
			}
			for _, call := range w.Calls() {
				if strings.Contains(call, "evil") || strings.Contains(call, "other") {
					t.Errorf("called %s", call)
				}
			}
		})
	}
}

// issuedAt is for a certificate of SNS whose issuer's is there.
func issuedAt(url string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		nettest.ForHost("sns.amazonaws.com")(c)
		c.IssuingCertificateURL = []string{url}
	}
}

func (w *world) serveByHost(bodies map[string]string) {
	w.Serve(func(rw http.ResponseWriter, r *http.Request) {
		body, ok := bodies[r.Host]
		if !ok {
			rw.WriteHeader(http.StatusBadGateway)
		}
		_, _ = rw.Write([]byte(body))
	})
}

// endless writes until nobody listens, a gigabyte at most.
func endless(rw http.ResponseWriter, _ *http.Request) {
	for range 1 << 10 {
		if _, err := rw.Write(make([]byte, 1<<20)); err != nil {
			return
		}
	}
}

// A name that isn't the sender's is never called.
func TestOtherNamesAreNotAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, "")
	for _, name := range []string{
		"https://169.254.169.254/latest.pem", "https://sns.us-east-1.amazonaws.com.evil.com/a.pem", "https://sns.us-east-1.amazonaws.com:8443/a.pem",
		"https://u@sns.us-east-1.amazonaws.com/a.pem", "http://sns.us-east-1.amazonaws.com/a.pem", "https://sns.us-east-1.amazonaws.com%2eevil.com/a.pem", "",
	} {
		if _, err := w.ring("aws-sns", topic).Key(t.Context(), name); !errors.Is(err, keyring.ErrUnknown) {
			t.Errorf("Key(%q) = %v, want %v", name, err, keyring.ErrUnknown)
		}
	}
	if w.asked() != 0 {
		t.Errorf("called %q", w.Calls())
	}
}

// A server that isn't the host that the URL names is not believed, and a name
// that leads into our own network is not called.
func TestTheWayToACertificateIsGuarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Answer(200, nettest.PEM(w.Root.Issue(t, strong(), nettest.ForHost("sns.amazonaws.com"))))
	deps := w.deps()
	deps.Roots = x509.NewCertPool()
	if _, err := w.ringWith("aws-sns", topic, deps).Key(t.Context(), certURL); !errors.Is(err, keyring.ErrUnavailable) || w.asked() != 0 {
		t.Errorf("Key() of a server that nobody trusts = %v after %d calls", err, w.asked())
	}
	// The guard's own way out, to a host that is this machine.
	deps = w.deps()
	deps.Dial = nil
	r := w.ringWith("plaid", "api: {base: \"https://127.0.0.1:"+w.Port()+"\", headers: {PLAID-CLIENT-ID: env:S, PLAID-SECRET: env:S}}", deps)
	if _, err := r.Key(t.Context(), "k1"); !errors.Is(err, keyring.ErrUnavailable) || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("Key() by way of loopback = %v", err)
	}
}

// Nothing that a server can answer makes a panic or a key.
func FuzzCertificate(f *testing.F) {
	w := newWorld(f)
	other := nettest.NewAuthority(f, "Other")
	own := other.Issue(f, strong(), nettest.ForHost("sns.amazonaws.com"))
	f.Add([]byte(nettest.PEM(own, other.Cert)))
	f.Add(own.Raw)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
	deps := w.deps()
	r := w.ringWith("aws-sns", topic, deps)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := r.Read(doc); !errors.Is(err, keyring.ErrUnknown) && !errors.Is(err, keyring.ErrUnavailable) {
			t.Errorf("Read() = %v", err)
		}
	})
}
