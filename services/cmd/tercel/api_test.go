package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/console"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// Tokens of a guarded console.
const (
	operatorToken = "an operator's token of a test"
	viewerToken   = "a viewer's token of a test"
	expiredToken  = "a token that was good once"
)

// startGuarded runs a console that wants tokens, over TLS, and returns its address
// and the file with the certificate.
func startGuarded(t *testing.T) (url, ca string) {
	t.Helper()
	server := natstest.Start(t, false)
	nc := server.Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	c, err := console.New(console.Config{Console: pipeline.Console{
		Listen: "127.0.0.1:0", TLS: pipeline.TLS{Cert: cert, Key: key}, Tokens: map[string]pipeline.Token{
			"olivia": {Role: pipeline.Operator, Token: config.NewSecret(operatorToken)},
			"victor": {Role: pipeline.Viewer, Token: config.NewSecret(viewerToken)},
			"oscar":  {Role: pipeline.Operator, Token: config.NewSecret(expiredToken), Expires: "2020-01-01"},
		},
	}}, console.Deps{Conn: nc, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the console ended with %v", err)
		}
	})
	select {
	case <-c.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the console did not start: %v", err)
	}
	return c.URL(), cert
}

// selfSigned writes a certificate of 127.0.0.1 and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})))
	return cert, key
}

// Who has no token, a wrong one, one that was good or one of too small a role is
// told so, by a text and for programs; no token is ever repeated.
func TestTokensAreAskedFor(t *testing.T) {
	t.Parallel()
	url, ca := startGuarded(t)
	for name, tt := range map[string]struct {
		token  string // "" for none
		args   string
		code   int
		reason string
		want   string
	}{
		"an operator":         {operatorToken, "audit list", boot.OK, "", "no records"},
		"a viewer":            {viewerToken, "audit list", boot.OK, "", "no records"},
		"a viewer that acts":  {viewerToken, "source pause orders", boot.Failed, "REASON_ROLE", "victor is a viewer"},
		"no token":            {"", "audit list", boot.Failed, "REASON_UNAUTHENTICATED", "wants a token"},
		"a wrong token":       {"a guess of a planted token", "audit list", boot.Failed, "REASON_UNAUTHENTICATED", "--token-file"},
		"an expired one":      {expiredToken, "status", boot.Failed, "REASON_TOKEN_EXPIRED", "expired"},
		"no token for a tail": {"", "listen -n 1", boot.Failed, "REASON_UNAUTHENTICATED", "wants a token"},
		"a file with nothing": {"\n", "audit list", boot.Failed, "", "it is empty"},
		"a file with more":    {"two\nlines", "audit list", boot.Failed, "", "one line of printable ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Fields(tt.args), "--api", url, "--api-ca", ca)
			if tt.token != "" {
				file := filepath.Join(t.TempDir(), "token")
				writeFile(t, file, tt.token+"\n")
				args = append(args, "--token-file", file)
			}
			o := tercel(t, "", args...)
			if o.code != tt.code || !strings.Contains(o.err, tt.want) || !strings.Contains(o.err, tt.reason) {
				t.Errorf("exit %d, %s%s; want exit %d with %q and %q", o.code, o.out, o.err, tt.code, tt.want, tt.reason)
			}
			if tt.reason == "" || strings.HasPrefix(tt.args, "source") {
				return
			}
			var told struct{ Error callError }
			if o = tercel(t, "", append(args, "--json")...); json.Unmarshal([]byte(o.err), &told) != nil || told.Error.Reason != tt.reason || told.Error.Code == "" {
				t.Errorf("with --json: %s, want the reason %s in one JSON object", o.err, tt.reason)
			}
			if tt.token != "" && strings.Contains(o.out+o.err, tt.token) {
				t.Errorf("the token is repeated: %s", o.err)
			}
		})
	}
	if o := tercel(t, "", "status", "--api", url); o.code != boot.Failed || !strings.Contains(o.err, "certificate") {
		t.Errorf("without its authority: exit %d, %s", o.code, o.err)
	}
	if o := tercel(t, "", "status", "--api", url, "--api-ca", filepath.Join(t.TempDir(), "none")); o.code != boot.Failed || !strings.Contains(o.err, "--api-ca") {
		t.Errorf("without the authority's file: exit %d, %s", o.code, o.err)
	}
}

// The environment says it all as well; a file goes before a text.
func TestTheEnvironmentNamesTheAPI(t *testing.T) {
	url, ca := startGuarded(t)
	t.Setenv("TERCEL_API", url)
	t.Setenv("TERCEL_API_CA", ca)
	t.Setenv("TERCEL_TOKEN", operatorToken)
	ok(t, "audit", "list")
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, expiredToken)
	t.Setenv("TERCEL_TOKEN_FILE", file)
	if o := tercel(t, "", "audit", "list"); o.code != boot.Failed || !strings.Contains(o.err, "REASON_TOKEN_EXPIRED") {
		t.Errorf("with a file too: exit %d, %s", o.code, o.err)
	}
}

// A token isn't sent elsewhere by a redirect, and whoever sends it in plain text
// over a network is warned.
func TestTokensStayWhereTheyBelong(t *testing.T) {
	t.Setenv("TERCEL_TOKEN", operatorToken)
	var elsewhere atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store(true) }))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(first.Close)
	if o := tercel(t, "", "status", "--api", first.URL); o.code != boot.Failed || elsewhere.Load() {
		t.Errorf("a redirect is followed (%t): exit %d, %s", elsewhere.Load(), o.code, o.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is called
	var errs strings.Builder
	a := &app{ctx: ctx, in: strings.NewReader(""), out: &errs, err: &errs}
	if run(a, []string{"status", "--api", "http://console.example.com:8089"}); !strings.Contains(errs.String(), "plain text") || strings.Contains(errs.String(), operatorToken) {
		t.Errorf("over a network: %s", errs.String())
	}
	errs.Reset()
	if run(a, []string{"status", "--api", "http://127.0.0.1:1"}); strings.Contains(errs.String(), "plain text") {
		t.Errorf("on the machine: %s", errs.String())
	}
}

// What was made up by hand is told as such, with the exit code of a mistake.
func TestWhatIsMadeUpByHandIsRefused(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	s.put("1", 1)
	s.breakDown("1", true)
	p := startLive(t, s, liveOptions{})
	p.send("d-1", `{"type":"order.paid","id":"1"}`)
	until(t, "there is a dead letter", func() bool { return strings.Contains(ok(t, "dlq", "list", "--api", p.ConsoleURL), "d-1") })
	for name, tt := range map[string]struct {
		args, stdin string
		code        int
		want        string
	}{
		"a page of letters":   {"dlq list --page-token AAAA", "", boot.Usage, "REASON_INVALID_PAGE_TOKEN"},
		"a page of groups":    {"dlq groups --page-token made-up", "", boot.Usage, "REASON_INVALID_PAGE_TOKEN"},
		"a page of events":    {"event list --page-token ../../etc", "", boot.Usage, "REASON_INVALID_PAGE_TOKEN"},
		"a page of refusals":  {"event refused --page-token =", "", boot.Usage, "REASON_INVALID_PAGE_TOKEN"},
		"a page of records":   {"audit list --page-token \u202e", "", boot.Usage, "REASON_INVALID_PAGE_TOKEN"},
		"a type":              {"event list --type a.>.b", "", boot.Usage, "filter.type: want"},
		"a letter's type":     {"dlq list --type >.a", "", boot.Usage, "filter.type: want"},
		"a long name":         {"event list --source " + strings.Repeat("x", 2000), "", boot.Usage, "filter.source: want"},
		"times the wrong way": {"dlq list --since 2026-02-01 --until 2026-01-01", "", boot.Usage, "filter.until: want"},
		"a tail of old ones":  {"listen --since 365d", "", boot.Usage, "age: want"},
		"a rate":              {"dlq replay 1 --rate 100000", "", boot.Usage, "rate: want"},
		"too long a wait":     {"dlq replay 1 --wait 1h", "", boot.Usage, "watch: want"},
		"a letter":            {"dlq show 99", "", boot.Failed, "REASON_NOT_FOUND"},
		"none to replay":      {"dlq replay 99", "", boot.Failed, "nothing to replay"},
		"an event to replay":  {"event replay no-such-event", "", boot.Failed, "nothing to replay"},
		"an event to show":    {"event show no-such-event", "", boot.Failed, "REASON_NOT_FOUND"},
		"none to discard":     {"dlq discard 99 --reason r", "", boot.Failed, "no open dead letter"},
		"no patch":            {"dlq edit 1 --patch -", "", boot.Usage, "it is empty"},
		"no JSON":             {"dlq edit 1 --patch -", "{", boot.Usage, "REASON_INVALID_FIELD"},
		"no list":             {"dlq edit 1 --patch -", `{"op":"remove"}`, boot.Usage, "REASON_INVALID_FIELD"},
		"no such operation":   {"dlq edit 1 --patch -", `[{"op":"fly","path":"/id"}]`, boot.Usage, "REASON_INVALID_FIELD"},
		"no such place":       {"dlq edit 1 --patch - --dry-run", `[{"op":"remove","path":"/nowhere"}]`, boot.Usage, "REASON_INVALID_FIELD"},
		"a failing test":      {"dlq edit 1 --patch -", `[{"op":"test","path":"/id","value":"2"}]`, boot.Usage, "REASON_INVALID_FIELD"},
		"too long a patch":    {"dlq edit 1 --patch -", `[` + strings.Repeat(" ", 1<<20) + `]`, boot.Usage, "at most 1 MiB"},
		"a patch of no file":  {"dlq edit 1 --patch /nowhere/patch", "", boot.Failed, "--patch"},
		"no destination":      {"destination pause wharehouse", "", boot.Failed, "there are: local"},
		"no source":           {"source resume ordres", "", boot.Failed, "there are: orders"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tercel(t, tt.stdin, append(strings.Fields(tt.args), "--api", p.ConsoleURL)...)
			if o.code != tt.code || !strings.Contains(o.err, tt.want) || o.out != "" {
				t.Errorf("exit %d, out %q, err %s; want exit %d and %q", o.code, o.out, o.err, tt.code, tt.want)
			}
			checkSteersNothing(t, tt.args, o)
		})
	}
	if o := tercel(t, "", "event", "list", "--origin", "replay", "--api", p.ConsoleURL); o.code != boot.OK || o.out != "" {
		t.Errorf("something was replayed all the same: exit %d\n%s%s", o.code, o.out, o.err)
	}
}

// checkSteersNothing looks for what a terminal would take for a command.
func checkSteersNothing(t *testing.T, what string, o outcome) {
	t.Helper()
	for _, r := range o.out + o.err {
		if r != '\n' && r != '\t' && steers(r) {
			t.Errorf("%s prints %q:\n%q", what, r, o.out+o.err)
			return
		}
	}
}

// What a sender put into a payload, a type or an id never reaches the terminal as
// it is, in no command and no form.
func TestNothingFromOutsideSteersTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "\u001b[2J\u009b31m\u202e\u0007"
	quoted := `\u001b[2J` + "\u009b31m\u202e" + `\u0007` // what JSON lets through as it is, it has as it is
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	s.putRaw("1", fmt.Sprintf(`{"id":"1","version":1,"updated_at":%q,"note":"%s"}`, time.Now().UTC().Add(-time.Minute).Format(time.RFC3339Nano), quoted))
	for i, id := range []string{"1", "2" + evil} {
		name, _ := json.Marshal(id)
		if i == 1 {
			s.putRaw(id, "\x1b]0;owned\x07 <html>")
		}
		p.send(fmt.Sprint("d-", i), fmt.Sprintf(`{"type":"order.%s","id":%s,"note":"%s","lines":"a\nb"}`, quoted, name, quoted))
	}
	until(t, "there is a dead letter and an event", func() bool {
		return strings.Contains(ok(t, "dlq", "list", "--api", p.ConsoleURL), "order.") && p.status("d-0") == delivered
	})
	for _, args := range []string{
		"event list", "event show d-0", "event show d-1", "event trace d-0", "event trace d-1", "dlq list", "dlq groups", "dlq show 1", "dlq replay 1 --dry-run",
		"listen --since 1h -n 1", "listen --raw --since 7d -n 2", "status", "audit list", "source list", "destination list", "reconcile report", "event trace " + evil,
	} {
		for _, form := range []string{"", " --json"} {
			if args == "reconcile report" {
				form = map[string]string{"": " --format csv", " --json": " --format json"}[form]
			}
			o := tercel(t, "", append(strings.Split(args+form, " "), "--api", p.ConsoleURL)...)
			if o.code != boot.OK && !strings.Contains(args, evil) {
				t.Errorf("%s%s: exit %d, %s", args, form, o.code, o.err)
			}
			checkSteersNothing(t, args+form, o)
		}
	}
}
