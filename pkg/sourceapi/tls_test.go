package sourceapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// A client certificate is shown, and a new one from the next connection on; a
// file that is being written doesn't count.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cfg := provider.ClientTLS{
		Cert: filepath.Join(folder, "c.crt"), Key: filepath.Join(folder, "c.key"), CA: filepath.Join(folder, "ca.crt"),
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // each request has a connection of its own
		fmt.Fprintf(w, "%q", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	writeFile(t, cfg.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	certificate(t, cfg, "first")
	a := api(s.URL)
	a.TLS = &cfg
	c := newClient(t, a, sourceapi.Deps{})
	get := func(want string) {
		t.Helper()
		if ans, err := c.Get(t.Context(), "/", nil); err != nil || string(ans.Body) != want {
			t.Errorf("Get() = %s, %v, want %s", ans.Body, err, want)
		}
	}
	get(`"first"`)
	certificate(t, cfg, "second")
	get(`"second"`)
	writeFile(t, cfg.Key, []byte("half"))
	get(`"second"`)
	for name, change := range map[string]func(*provider.ClientTLS){
		"no certificate": func(c *provider.ClientTLS) { c.Cert = filepath.Join(folder, "none") },
		"no authority":   func(c *provider.ClientTLS) { c.CA = cfg.Key },
	} {
		broken := cfg
		change(&broken)
		a.TLS = &broken
		if _, err := sourceapi.New("orders", a, sourceapi.Deps{}); err == nil {
			t.Errorf("New() with %s = nil, want an error", name)
		}
	}
}

func certificate(t *testing.T, cfg provider.ClientTLS, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cfg.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, cfg.Key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
