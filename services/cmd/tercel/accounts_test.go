package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// Accounts are added, changed and removed while the pipeline runs, and every
// service takes it over.
func TestAccountsInABucket(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	shop.put("7", 1)
	p := startLive(t, shop, liveOptions{accounts: true})
	const secret = "the secret of one account alone"
	path := filepath.Join(t.TempDir(), "acct_1")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"-c", p.config, "--data", p.data, "orders"}
	if o := tercel(t, "", append([]string{"accounts", "list"}, at...)...); o.code != boot.OK || !strings.Contains(o.err, "no accounts") {
		t.Errorf("accounts list of none: %+v", o)
	}
	ok(t, append(append([]string{"accounts", "set"}, at...), "acct_1", "--secret", "file:"+path)...)
	o := tercel(t, "disabled: true\napi: {token: \"file:"+path+"\"}\n", append(append([]string{"accounts", "set"}, at...), "acct.2", "--entry", "-")...)
	if o.code != boot.OK {
		t.Fatalf("accounts set from standard input: %+v", o)
	}
	list := ok(t, append([]string{"accounts", "list", "--json"}, at...)...)
	if want := `{"account":"acct.2","secrets":0,"api":true,"state":"disabled"}` + "\n" +
		`{"account":"acct_1","secrets":1,"api":false,"state":"active"}` + "\n"; list != want {
		t.Errorf("accounts list: %s, want %s", list, want)
	}
	if out := ok(t, "status", "--api", p.ConsoleURL); !regexp.MustCompile(`orders +2 +tercel_accounts`).MatchString(out) {
		t.Errorf("status:\n%s", out)
	}
	if out := ok(t, "check", "-c", p.config); !strings.Contains(out, "accounts of orders: in bucket tercel_accounts") {
		t.Errorf("check: %s", out)
	}
	request := func(id string) *http.Request {
		src := p.source.Sources["orders"]
		key, err := signature.ParseKey(src.Verify, secret)
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"type":"order.paid","id":"7"}`
		req := p.request(id, body)
		req.URL.Path += "/acct_1"
		for name, values := range src.Verifier().Sign(key, []byte(body), "", time.Now()) {
			req.Header[name] = values
		}
		return req
	}
	send := func(id string) int {
		resp, err := http.DefaultClient.Do(request(id))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	until(t, "a webhook of the account is taken in", func() bool { return send("d-1") == http.StatusOK })
	var captured strings.Builder
	if err := request("d-3").Write(&captured); err != nil {
		t.Fatal(err)
	}
	verify := func(more ...string) outcome {
		return tercel(t, captured.String(), append([]string{"verify", "-c", p.config, "--source", "orders", "-"}, more...)...)
	}
	if o := verify("--data", p.data); o.code != boot.OK || !strings.Contains(o.out, "accepted as event") {
		t.Errorf("verify with an account of the bucket: %+v", o)
	}
	if o := verify("--data", t.TempDir(), "--nats", "nats://127.0.0.1:1"); o.code != boot.Failed ||
		!strings.Contains(o.err, "source orders: its accounts are in bucket tercel_accounts: connect to nats://127.0.0.1:1: ") {
		t.Errorf("verify without the pipeline: %+v", o)
	}
	until(t, "the account is reconciled", func() bool {
		return strings.Contains(ok(t, "reconcile", "status", "--api", p.ConsoleURL), "acct_1")
	})
	ok(t, append(append([]string{"accounts", "remove"}, at...), "acct_1")...)
	until(t, "a webhook of the account is refused", func() bool { return send("d-2") == http.StatusNotFound })
	if o := verify("--data", p.data); o.code != boot.Failed || !strings.Contains(o.out, "refused with 404") {
		t.Errorf("verify with an account that was removed: %+v", o)
	}
	if o := tercel(t, "", append(append([]string{"accounts", "remove"}, at...), "acct_1")...); o.code != boot.Failed {
		t.Errorf("removing it again: %+v", o)
	}
}

func TestAccountsCommandsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	config, accounts := filepath.Join(folder, "tercel.yaml"), filepath.Join(folder, "accounts.yaml")
	for path, text := range map[string]string{
		filepath.Join(folder, "secret"): "a secret of enough length for keys",
		accounts:                        "north: {}\nsouth: {disabled: true}\neast: {secrets: [\"hunter2\"]}\n",
		config: `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: ["file:` + folder + `/secret"]
    event: {type: body.type}
    accounts: {file: "` + accounts + `"}
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := tercel(t, "", "check", "-c", config)
	if o.code != boot.Failed || !strings.Contains(o.err, accounts+":3:18: east.secrets[0]: found [redacted], want a reference") || strings.Contains(o.err, "hunter2") {
		t.Errorf("check: %+v", o)
	}
	if out := ok(t, "accounts", "list", "-c", config, "orders"); !strings.Contains(out, "disabled") || !strings.Contains(out, "broken") {
		t.Errorf("accounts list: %s", out)
	}
	if err := os.WriteFile(accounts, []byte("north: {}\nsouth: {disabled: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := ok(t, "check", "-c", config); !strings.Contains(out, "accounts of orders: 1 and 1 disabled\n") {
		t.Errorf("check: %s", out)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no entry":       {[]string{"set", "orders", "east"}, boot.Usage, "want --entry or --secret"},
		"not a bucket":   {[]string{"set", "orders", "east", "--secret", "env:X"}, boot.Failed, "not in a bucket"},
		"unknown source": {[]string{"list", "order"}, boot.Failed, "no such source; want one of orders"},
	} {
		o := tercel(t, "", append([]string{"accounts", tt.args[0], "-c", config}, tt.args[1:]...)...)
		if o.code != tt.code || !strings.Contains(o.err, tt.want) {
			t.Errorf("%s: %+v, want exit %d with %q", name, o, tt.code, tt.want)
		}
	}
}
