package account_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
)

// source decodes one source as a pipeline file has it; accounts is its section.
func source(t testing.TB, accounts string) provider.Source {
	t.Helper()
	f, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:S]
    event: {type: body.kind}
    api: {base: "https://api.example.com", token: env:S}
    accounts: `+accounts+`
seal_keys: [env:K]
`), config.WithLookupEnv(func(name string) (string, bool) { return "a secret of the source, " + name + ", long enough", true }))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources["orders"]
}

// sealKeys are those of the tests.
var sealKeys = []config.Secret{config.NewSecret("the key that seals the accounts of tests")}

// logged is a log that a test can read.
type logged struct {
	mu   sync.Mutex // guards the text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) bool { return strings.Contains(l.String(), text) }

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open opens the accounts of a source until the test ends.
func open(t testing.TB, src provider.Source, nc *nats.Conn) (*account.Set, *logged) {
	t.Helper()
	log := &logged{}
	set, err := account.Open(account.Config{
		Sources: map[string]provider.Source{"orders": src}, Streams: topology.DefaultConfig(), SealKeys: sealKeys,
	}, account.Deps{Conn: nc, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set, log
}

// write replaces a file at once, as a careful editor does.
func write(t testing.TB, path, text string) string {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// secret writes a secret and returns the reference to it.
func secret(t testing.TB, folder, name string) string {
	t.Helper()
	return "file:" + write(t, filepath.Join(folder, name), "the secret of "+name+", which is long enough")
}

// state is what a table says of an account.
func state(table *account.Table, name string) string {
	a, err := table.Find(name)
	if err != nil {
		return err.Error()
	}
	if a.Name != name {
		return "named " + a.Name
	}
	text := fmt.Sprintf("%d keys", len(a.Keys()))
	if a.API != nil {
		text += ", token " + a.API.Token.Reveal()
	}
	return text
}

// eventually waits until a table says that of an account.
func eventually(t testing.TB, table *account.Table, name, want string) {
	t.Helper()
	wait(t, name+": "+want, func() bool { return state(table, name) == want })
}

// wait waits until ok holds.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 60s: %s", what)
		}
	}
}
