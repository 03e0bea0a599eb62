package ingress_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// tenanted is a source whose accounts and further keys are %s.
const tenanted = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    event: {id: body.id, type: body.kind%s}
    %s
seal_keys: [env:STANDARD]
`

// tenants is a service with accounts in a file.
type tenants struct {
	*fixture
	path   string // of the accounts file
	folder string // with secrets
}

// newTenants starts a service; event and source are more of those sections.
func newTenants(t *testing.T, event, source string, accounts ...string) *tenants {
	t.Helper()
	ts := &tenants{folder: t.TempDir()}
	ts.path = filepath.Join(ts.folder, "accounts.yaml")
	for _, name := range []string{"north", "south"} {
		if err := os.WriteFile(filepath.Join(ts.folder, name), []byte("the secret of "+name+" alone"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ts.write(t, accounts...)
	if source != "" {
		source = "\n    " + source
	}
	ts.fixture = setup(t, reading(t, fmt.Sprintf(tenanted, event, "accounts: {file: "+ts.path+"}"+source)))
	return ts
}

// write replaces the accounts file.
func (ts *tenants) write(t *testing.T, entries ...string) {
	t.Helper()
	text := strings.ReplaceAll(strings.Join(entries, "\n")+"\n", "SECRET/", "file:"+ts.folder+"/")
	if err := os.WriteFile(ts.path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(ts.path+".next", ts.path); err != nil {
		t.Fatal(err)
	}
}

// from returns a delivery to a path below the source, signed with a secret.
func (ts *tenants) from(path, secret, body string) delivery {
	ts.t.Helper()
	src := ts.sources["shop"]
	key, err := signature.ParseKey(src.Verify, secret)
	if err != nil {
		ts.t.Fatal(err)
	}
	d := delivery{method: http.MethodPost, path: "/v1/shop" + path, body: body, header: http.Header{"Content-Type": {"application/json"}}}
	return d.signed(src.Verifier(), key, "", at)
}

func (ts *tenants) want(status int, d delivery, about string) reply {
	ts.t.Helper()
	r := ts.send(d)
	if r.code != status {
		ts.t.Errorf("%s: answered %d %s, want %d", about, r.code, r.Error, status)
	}
	return r
}

const (
	ofNorth  = "the secret of north alone"
	ofSouth  = "the secret of south alone"
	ofSource = "a secret of enough length"
)

// Promise 2: a request of one account, sent to the path of another, is refused:
// the signature is bound to the account, though it doesn't cover the path.
func TestPromise2AccountsWithSecretsAreApart(t *testing.T) {
	t.Parallel()
	ts := newTenants(t, "", "secrets: [env:PLAIN]", "north: {secrets: [SECRET/north]}", "south: {secrets: [SECRET/south]}", "poor: {}")
	captured := ts.from("/north", ofNorth, `{"id":"1","kind":"paid"}`)
	ts.want(http.StatusOK, captured, "to its own path")
	if e, err := event.FromHeader(ts.last().Header); err != nil || e.Account != "north" {
		t.Errorf("stored as of %q, %v", e.Account, err)
	}
	for _, path := range []string{"/south", "/poor"} {
		moved := captured
		moved.path = "/v1/shop" + path
		ts.want(http.StatusUnauthorized, moved, "captured, and sent to "+path)
	}
	ts.want(http.StatusUnauthorized, ts.from("/north", ofSource, `{"id":"2","kind":"paid"}`), "with the source's secret to an account with its own")
	ts.want(http.StatusOK, ts.from("/poor", ofSource, `{"id":"3","kind":"paid"}`), "with the source's secret to an account without")
	for _, path := range []string{"", "/", "/east", "/north/", "/north/x", "/%6eorth", "/NORTH"} {
		ts.want(http.StatusNotFound, ts.from(path, ofNorth, `{"id":"4","kind":"paid"}`), "to "+path)
	}
	if n := ts.stored(); n != 2 {
		t.Errorf("%d messages stored, want 2", n)
	}
}

// A source may have no secret at all, if its accounts have.
func TestAccountsComeChangeAndGoWithoutRestart(t *testing.T) {
	t.Parallel()
	ts := newTenants(t, "", "", "north: {secrets: [SECRET/north]}", "poor: {}", "broken: {secrets: [SECRET/nothing]}")
	n := 0
	body := func() string { n++; return fmt.Sprintf(`{"id":"%d","kind":"paid"}`, n) }
	ts.want(http.StatusOK, ts.from("/north", ofNorth, body()), "north at first")
	ts.want(http.StatusNotFound, ts.from("/south", ofSouth, body()), "south before it is there")
	// Their senders come again, which they wouldn't after 4xx.
	ts.want(http.StatusServiceUnavailable, ts.from("/poor", ofSource, body()), "an account without any secret")
	ts.want(http.StatusServiceUnavailable, ts.from("/broken", ofSource, body()), "an account whose secret isn't there")
	ts.write(t, "north: {secrets: [SECRET/south, SECRET/north]}", "south: {secrets: [SECRET/south]}", "shut: {disabled: true, secrets: [SECRET/south]}")
	eventually(t, "south is taken in", func() bool { return ts.send(ts.from("/south", ofSouth, body())).code == http.StatusOK })
	ts.want(http.StatusOK, ts.from("/north", ofNorth, body()), "north with its older secret")
	ts.want(http.StatusOK, ts.from("/north", ofSouth, body()), "north with its newer secret")
	ts.want(http.StatusNotFound, ts.from("/shut", ofSouth, body()), "a disabled account")
	ts.want(http.StatusNotFound, ts.from("/poor", ofSource, body()), "an account that was removed")
	ts.write(t, "south: {secrets: [SECRET/north]}")
	eventually(t, "north is unknown", func() bool { return ts.send(ts.from("/north", ofNorth, body())).code == http.StatusNotFound })
	ts.want(http.StatusUnauthorized, ts.from("/south", ofSouth, body()), "south with the secret that it had")
	ts.want(http.StatusOK, ts.from("/south", ofNorth, body()), "south with the secret that it has")
}

// With a shared secret the body's word is held against the path's, and can
// stand for it.
func TestTheBodyNamesTheAccount(t *testing.T) {
	t.Parallel()
	ts := newTenants(t, ", account: body.account", "secrets: [env:PLAIN]\n    account_limit: {requests: 4, per: 1h}",
		"north: {}", "south: {secrets: [SECRET/south]}", "east: {}", "shut: {disabled: true}")
	for i, tt := range []struct {
		about, path, secret, account string
		want                         int
	}{
		{"the same in path and body", "/north", ofSource, `"north"`, http.StatusOK},
		{"another in the body", "/east", ofSource, `"north"`, http.StatusForbidden},
		{"none in the body", "/north", ofSource, "", http.StatusBadRequest},
		{"null in the body", "/east", ofSource, "null", http.StatusBadRequest},
		{"an object in the body", "/east", ofSource, "{}", http.StatusBadRequest},
		{"none in the body, with a secret of its own", "/south", ofSouth, "", http.StatusOK},
		{"another in the body, with a secret of its own", "/south", ofSouth, `"north"`, http.StatusForbidden},
		{"only in the body", "", ofSource, `"east"`, http.StatusOK},
		{"only in the body, forged", "", ofSouth, `"east"`, http.StatusUnauthorized},
		{"only in the body, unknown", "", ofSource, `"west"`, http.StatusNotFound},
		{"only in the body, disabled", "", ofSource, `"shut"`, http.StatusNotFound},
		{"only in the body, empty", "", ofSource, `""`, http.StatusBadRequest},
		{"only in the body, with a secret of its own", "", ofSource, `"south"`, http.StatusForbidden},
		{"nowhere", "", ofSource, "", http.StatusBadRequest},
		{"only in the body, the last that its rate has", "", ofSource, `"east"`, http.StatusTooManyRequests},
	} {
		body := fmt.Sprintf(`{"id":"%d","kind":"paid"}`, i)
		if tt.account != "" {
			body = fmt.Sprintf(`{"id":"%d","kind":"paid","account":%s}`, i, tt.account)
		}
		d := ts.from(tt.path, tt.secret, body)
		before := ts.stored()
		ts.want(tt.want, d, tt.about)
		stored := ts.stored() - before
		if (tt.want == http.StatusOK) != (stored == 1) || stored > 1 {
			t.Errorf("%s: %d messages stored", tt.about, stored)
		}
		if tt.want == http.StatusOK {
			e, err := event.FromHeader(ts.last().Header)
			if want := strings.Trim(tt.account, `"`); err != nil || want != "" && e.Account != want || e.Account == event.NoAccount {
				t.Errorf("%s: stored as of %q, %v", tt.about, e.Account, err)
			}
		}
		ex, err := ingress.Explain("shop", ts.sources["shop"], d.raw(), at)
		if tt.want != http.StatusTooManyRequests && (err != nil || ex.Status != tt.want) {
			t.Errorf("%s: Explain() = %+v, %v, want %d", tt.about, ex, err, tt.want)
		}
		if err == nil && tt.want == http.StatusOK && !slices.ContainsFunc(ex.Steps, func(s ingress.Step) bool { return s.Name == "account" }) {
			t.Errorf("%s: Explain() doesn't tell the account", tt.about)
		}
	}
}

// Until accounts in a bucket were read, a sender is asked to come again, and
// the service is not ready. Then they come and go at once.
func TestAccountsOfABucket(t *testing.T) {
	t.Parallel()
	cfg := ingress.Config{Streams: topology.DefaultConfig()}
	reading(t, fmt.Sprintf(tenanted, "", "accounts: {bucket: tercel_accounts}"))(&cfg)
	f := &fixture{t: t, server: natstest.Start(t, true), sources: cfg.Sources, log: &logged{}}
	ts := &tenants{fixture: f, folder: t.TempDir()}
	f.conn = f.server.Connect()
	if err := topology.Ensure(t.Context(), f.jetstream(), cfg.Streams); err != nil {
		t.Fatal(err)
	}
	f.server.Stop()
	f.serve(cfg)
	ts.want(http.StatusServiceUnavailable, ts.from("/north", ofNorth, `{"id":"1","kind":"paid"}`), "before the bucket was read")
	f.server.Resume()
	eventually(t, "accounts are known", func() bool {
		return ts.send(ts.from("/north", ofNorth, `{"id":"1","kind":"paid"}`)).code == http.StatusNotFound
	})
	kv, err := f.jetstream().KeyValue(t.Context(), "tercel_accounts")
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.New(sealKeys)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(ts.folder, "north")
	if err := os.WriteFile(path, []byte(ofNorth), 0o600); err != nil {
		t.Fatal(err)
	}
	value, err := account.Seal(box, "shop", f.sources["shop"], "north", "entry", []byte("secrets: [file:"+path+"]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "shop.north", value); err != nil {
		t.Fatal(err)
	}
	eventually(t, "north is taken in", func() bool {
		return ts.send(ts.from("/north", ofNorth, `{"id":"1","kind":"paid"}`)).code == http.StatusOK
	})
	if err := kv.Delete(t.Context(), "shop.north"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "north is unknown", func() bool {
		return ts.send(ts.from("/north", ofNorth, `{"id":"1","kind":"paid"}`)).code == http.StatusNotFound
	})
}

// A service must not run without the accounts that its file speaks of.
func TestAccountsMustBeOpened(t *testing.T) {
	t.Parallel()
	cfg := ingress.Config{Streams: topology.DefaultConfig()}
	reading(t, fmt.Sprintf(tenanted, "", "accounts: {bucket: tercel_accounts}"))(&cfg)
	_, err := ingress.New(cfg, ingress.Deps{Conn: natstest.Start(t, false).Connect(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "accounts of shop") {
		t.Errorf("New() = %v, want an error about the accounts of shop", err)
	}
}
