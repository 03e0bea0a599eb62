package enricher_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
)

const cached = `
        get: /orders/{id}
        version: record.version
        related: {customer: {get: "/customers/{record.customer_id}", cache: 1m}}
`

// A related record is used again while it is as young as its cache says, and by
// nobody when it is older.
func TestACachedRecordIsNeverOlderThanItMayBe(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	f := setup(t, withOrder("", cached), func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/customers/") {
			fmt.Fprintf(w, `{"answer":%d}`, asked.Add(1))
			return
		}
		fmt.Fprintf(w, `{"id":%s,"customer_id":"c1","version":1}`, strings.TrimPrefix(r.URL.Path, "/orders/"))
	})
	var passed atomic.Int64 // since the beginning
	begin := time.Now()
	f.now = func() time.Time { return begin.Add(time.Duration(passed.Load())) }
	f.start()
	for n, step := range []struct {
		at   time.Duration
		want int
	}{{0, 1}, {time.Minute, 1}, {time.Minute + 1, 2}, {2*time.Minute + 1, 2}, {2*time.Minute + 2, 3}, {time.Hour, 4}} {
		passed.Store(int64(step.at))
		f.send(trigger("order.paid", fmt.Sprint("evt_", n)), fmt.Sprintf(`{"order":{"id":%d}}`, n))
		f.eventually("an event", func() bool { return len(f.events()) == n+1 })
		if got, want := f.events()[n].body, fmt.Sprintf(`"related":{"customer":{"answer":%d}}}`, step.want); !strings.HasSuffix(got, want) {
			t.Errorf("after %s: %s, want %s", step.at, got, want)
		}
	}
}

const cachedOfAccounts = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{body}"}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    accounts: {file: ACCOUNTS}
    api: {base: "%s", allow_private: true, timeout: 5s}
    resources:
      order: {triggers: [order.*], id: body.order.id, get: "/orders/{id}", version: record.version, related: {customer: {get: "/customers/{record.customer_id}", cache: 1h}}}
`

// What one account was answered, no other gets, though both have a record of the
// same id.
func TestACachedRecordIsItsAccounts(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var entries strings.Builder
	for _, name := range []string{"north", "south"} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte("token-of-"+name), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&entries, "%s: {api: {token: \"file:%s\"}}\n", name, path)
	}
	list := filepath.Join(folder, "accounts.yaml")
	if err := os.WriteFile(list, []byte(entries.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	f := setup(t, strings.ReplaceAll(cachedOfAccounts, "ACCOUNTS", list), func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/customers/") {
			asked.Add(1)
			fmt.Fprintf(w, `{"seen_by":%q}`, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			return
		}
		fmt.Fprintf(w, `{"id":%s,"customer_id":"c1","version":1}`, strings.TrimPrefix(r.URL.Path, "/orders/"))
	})
	set, err := account.Open(account.Config{Sources: f.cfg.Sources, Streams: f.cfg.Streams}, account.Deps{Conn: f.nc, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	f.accounts = set
	f.start()
	for n, name := range []string{"north", "south", "north", "south"} {
		e := trigger("order.paid", fmt.Sprint("evt_", n))
		e.Account = name
		f.send(e, fmt.Sprintf(`{"order":{"id":%d}}`, n))
		f.eventually("an event", func() bool { return len(f.events()) == n+1 })
		got := f.events()[n]
		if want := `"related":{"customer":{"seen_by":"token-of-` + name + `"}}}`; got.Account != name || !strings.HasSuffix(got.body, want) {
			t.Errorf("event %d of %s: %s, want %s", n, got.Account, got.body, want)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("customers were asked for %d times, want once for each account", n)
	}
}
