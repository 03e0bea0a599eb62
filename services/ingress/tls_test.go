package ingress_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/ingress"
)

// certificate is a self-signed one for 127.0.0.1 and its key, as PEM.
func certificate(t testing.TB, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// serial connects and returns the number of the service's certificate, after
// one request over the connection.
func (f *fixture) serial(cfg *tls.Config) (int64, error) {
	f.t.Helper()
	cfg.InsecureSkipVerify = true // which one it is, is what the test asks
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	d := f.delivery("orders", "d", goodBody)
	req, err := http.NewRequest(d.method, "https://"+f.service.Addr()+d.path, bytes.NewReader([]byte(d.body)))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header = d.header
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		f.t.Errorf("answered %s, want 200", resp.Status)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestCertificatesAreReadAnewWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paths := pipeline.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	cert, key := certificate(t, 1)
	replace(t, paths.Cert, string(cert))
	replace(t, paths.Key, string(key))
	clientCert, clientKey := certificate(t, 100)
	replace(t, paths.ClientCA, string(clientCert))
	client, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	f := setup(t, func(c *ingress.Config) { c.TLS = paths })
	f.run()
	known := func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{client}} }
	if got, err := f.serial(known()); err != nil || got != 1 {
		t.Fatalf("certificate %d, %v, want 1", got, err)
	}
	if _, err := f.serial(&tls.Config{}); err == nil {
		t.Error("a client without a certificate was served")
	}
	old := known()
	old.MaxVersion = tls.VersionTLS11
	if _, err := f.serial(old); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	cert, key = certificate(t, 2)
	replace(t, paths.Cert, string(cert))
	eventually(t, "a pair that doesn't fit is told", func() bool { return bytes.Contains([]byte(f.log.String()), []byte("certificates not read")) })
	if got, err := f.serial(known()); err != nil || got != 1 {
		t.Errorf("with half a pair: certificate %d, %v, want the last good one", got, err)
	}
	replace(t, paths.Key, string(key))
	eventually(t, "the new certificate", func() bool { got, err := f.serial(known()); return err == nil && got == 2 })
	other, _ := certificate(t, 101)
	replace(t, paths.ClientCA, string(other))
	eventually(t, "a client of the former authority is refused", func() bool { _, err := f.serial(known()); return err != nil })
}
