package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/console"
)

type (
	consoleConfig = console.Config
	consoleDeps   = console.Deps
)

// certificate is a self-signed one for 127.0.0.1, and who trusts it.
func certificate(t testing.TB) (pipeline.TLS, *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths := pipeline.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, paths.Cert, string(cert))
	write(t, paths.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return paths, pool
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// What would let anybody in, or nobody, doesn't start, and the error says what to
// do.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t, false).Connect()
	for name, tt := range map[string]struct {
		edit func(*consoleConfig)
		want []string
	}{
		"no tokens, reached from outside": {func(c *consoleConfig) { c.Tokens, c.Listen, c.Open = nil, "0.0.0.0:8089", true }, []string{"0.0.0.0:8089", "console.tokens.alice", "127.0.0.1"}},
		"no tokens, on every address":     {func(c *consoleConfig) { c.Tokens, c.Listen, c.Open = nil, ":8089", true }, []string{"console.tokens.alice"}},
		"no tokens, under a name":         {func(c *consoleConfig) { c.Tokens, c.Listen, c.Open = nil, "console.example.com:8089", true }, []string{"console.tokens.alice"}},
		"no tokens, not the all-in-one":   {func(c *consoleConfig) { c.Tokens = nil }, []string{"console.tokens", "tercel up"}},
		"a certificate that isn't there":  {func(c *consoleConfig) { c.TLS = pipeline.TLS{Cert: "nowhere.pem", Key: "nowhere.pem"} }, []string{"console.tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configured(t)
			tt.edit(&cfg)
			_, err := console.New(cfg, console.Deps{Conn: nc, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				t.Fatal("New() = nil, want a refusal")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %v, want it to name %s", err, want)
				}
			}
		})
	}
}

// On the machine itself the all-in-one takes calls without a token, and with
// tokens it doesn't.
func TestOpenOnTheMachineItself(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *consoleConfig, _ *consoleDeps) { c.Tokens, c.Open = nil, true })
	if a := f.post("", "PipelineService/GetCaller", "{}"); a.status != http.StatusOK || a.body["name"] != "local" || a.body["role"] != "ROLE_OPERATOR" {
		t.Errorf("answered %d %s, want the local operator", a.status, a.text)
	}
	f = setup(t, func(c *consoleConfig, _ *consoleDeps) { c.Open = true })
	if a := f.post("", "PipelineService/GetCaller", "{}"); a.status != http.StatusUnauthorized || a.reason != "REASON_UNAUTHENTICATED" {
		t.Errorf("with tokens in the file answered %d %s", a.status, a.text)
	}
}

// A token in a file is taken over without a restart; what can't be used leaves
// the last good one.
func TestATokenIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "the first token\n")
	var section struct {
		Console pipeline.Console `yaml:"console"`
	}
	section.Console.Listen = "127.0.0.1:0"
	text, err := json.Marshal(map[string]any{"console": map[string]any{"tokens": map[string]any{
		"rotated": map[string]string{"role": "viewer", "token": "file:" + path},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Decode("tercel.yaml", text, &section); err == nil {
		t.Fatal("a token of 15 characters was taken")
	}
	write(t, path, "the first token of enough length\n")
	if err := config.Decode("tercel.yaml", text, &section); err != nil {
		t.Fatal(err)
	}
	f := setup(t, func(c *consoleConfig, _ *consoleDeps) {
		c.Tokens = map[string]pipeline.Token{"rotated": section.Console.Tokens["rotated"], "victor": c.Tokens["victor"]}
	})
	status := func(token string) int { return f.post(token, "PipelineService/GetCaller", "{}").status }
	if got := status("the first token of enough length"); got != http.StatusOK {
		t.Fatalf("the first token: %d", got)
	}
	for bad, why := range map[string]string{"short": "at least 16", viewerToken: "the token of victor too"} {
		write(t, path, bad)
		until(t, "it is told why that can't be used", func() bool { return strings.Contains(f.log.String(), why) })
		if got := status("the first token of enough length"); got != http.StatusOK {
			t.Errorf("the last good token: %d", got)
		}
	}
	write(t, path, "the second token of enough length")
	until(t, "the second token is taken", func() bool { return status("the second token of enough length") == http.StatusOK })
	if got := status("the first token of enough length"); got != http.StatusUnauthorized && got != http.StatusTooManyRequests {
		t.Errorf("the first token after its end: %d", got)
	}
	if strings.Contains(f.log.String(), "of enough length") {
		t.Error("a token is in the log")
	}
}

func TestTheOpenAPIDocumentIsServed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	resp, err := http.Get(f.url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(text, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("/openapi.json: %v, version %q", err, doc.OpenAPI)
	}
	for path := range contract(t) {
		if doc.Paths[path]["post"] == nil {
			t.Errorf("%s is not in the document", path)
		}
	}
	if len(doc.Paths) != len(contract(t)) {
		t.Errorf("%d paths, want the %d methods", len(doc.Paths), len(contract(t)))
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.service.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
	if err := f.js.DeleteStream(t.Context(), "TERCEL_AUDIT"); err != nil {
		t.Fatal(err)
	}
	if err := f.service.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "TERCEL_AUDIT") {
		t.Errorf("Healthy() without a stream for audit records = %v", err)
	}
}
