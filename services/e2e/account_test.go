package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/enricher"
	"github.com/tercelhq/tercel/services/ingress"
)

// accountPipeline is a pipeline file whose API is at %s, with accounts in %s.
const accountPipeline = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    accounts: {file: %s}
    api: {base: "%s", allow_private: true, token: env:SHARED}
    resources: {thing: {triggers: [thing.*], id: body.thing, get: "/{account}/things/{id}", version: record.version}}
`

// tokens is an API that notes which token asks for which path.
type tokens struct {
	mu   sync.Mutex // guards seen
	seen []string
}

func (a *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, r.URL.Path+" "+r.Header.Get("Authorization"))
	fmt.Fprintf(w, `{"id":%q,"version":1}`, path.Base(r.URL.Path))
}

// An account's entry counts all the way: its secret lets its webhook in, and its
// token gets its record. One that has none of its own has the source's, and a
// new token counts without a restart.
func TestAnAccountsOwnCredentialsCountAllTheWay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	list := filepath.Join(folder, "accounts.yaml")
	replace(t, list, "north: {secrets: [\"file:FOLDER/secret\"], api: {token: \"file:FOLDER/token\"}}\nsouth: {}\n", folder)
	replace(t, filepath.Join(folder, "secret"), "the secret of north alone", folder)
	replace(t, filepath.Join(folder, "token"), "token-of-north", folder)
	replace(t, filepath.Join(folder, "next"), "next-token-of-north", folder)
	seen := &tokens{}
	api := httptest.NewServer(seen)
	defer api.Close()
	const shared = "a secret of the whole source"
	file, err := pipeline.Decode("tercel.yaml", fmt.Appendf(nil, accountPipeline, list, api.URL), config.WithLookupEnv(func(string) (string, bool) { return shared, true }))
	if err != nil {
		t.Fatal(err)
	}
	nc := natstest.Start(t, true).Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, file.Streams); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	accounts, err := account.Open(account.Config{Sources: file.Sources, Streams: file.Streams}, account.Deps{Conn: nc, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer accounts.Close()
	in, err := ingress.New(ingress.Config{Ingress: file.Ingress, Sources: file.Sources, Streams: file.Streams}, ingress.Deps{Conn: nc, Log: log, Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	work := consume.DefaultConfig()
	work.Workers = 1
	en, err := enricher.New(enricher.Config{Config: work, Sources: file.Sources, Streams: file.Streams}, enricher.Deps{Conn: nc, Log: log, Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- en.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()

	src := file.Sources["shop"]
	n := 0
	send := func(name, secret string) {
		t.Helper()
		n++
		key, err := signature.ParseKey(src.Verify, secret)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"id":"e%d","kind":"thing.made","thing":"%d"}`, n, n)
		r := httptest.NewRequest(http.MethodPost, "/v1/shop/"+name, strings.NewReader(body))
		for header, values := range src.Verifier().Sign(key, []byte(body), "", time.Now()) {
			r.Header[header] = values
		}
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if in.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%s: answered %d: %s", name, w.Code, w.Body)
		}
		eventually(t, time.Minute, "the event of "+name, func() error { return hasRecord(t.Context(), js, name, fmt.Sprint(n)) })
	}
	asked := func(want string) {
		t.Helper()
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if got := seen.seen[len(seen.seen)-1]; got != want {
			t.Errorf("the API was asked %q, want %q", got, want)
		}
	}
	send("north", "the secret of north alone")
	asked("/north/things/1 Bearer token-of-north")
	send("south", shared)
	asked("/south/things/2 Bearer " + shared)
	replace(t, list, "north: {secrets: [\"file:FOLDER/secret\"], api: {token: \"file:FOLDER/next\"}}\nsouth: {}\n", folder)
	eventually(t, time.Minute, "the next token is known", func() error {
		if auth, ok := accounts.Auth(&src, "shop")("north"); !ok || auth.Token.Reveal() != "next-token-of-north" {
			return fmt.Errorf("not yet (%t)", ok)
		}
		return nil
	})
	send("north", "the secret of north alone")
	asked("/north/things/3 Bearer next-token-of-north")
}

// replace puts a file in its place at once; FOLDER in its text stands for folder.
func replace(t *testing.T, name, text, folder string) {
	t.Helper()
	if err := os.WriteFile(name+".next", []byte(strings.ReplaceAll(text, "FOLDER", folder)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".next", name); err != nil {
		t.Fatal(err)
	}
}

// hasRecord reports whether there isn't an event of that account's record.
func hasRecord(ctx context.Context, js jetstream.JetStream, name, record string) error {
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{Stream: topology.StreamEnriched}) {
		if err != nil {
			return err
		}
		if e, err := event.FromHeader(m.Header); err == nil && e.Account == name && e.RecordID == record {
			return nil
		}
	}
	return fmt.Errorf("no event of %s with record %s", name, record)
}
