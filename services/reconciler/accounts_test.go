package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

// accountsFile is a file of accounts.
type accountsFile struct {
	t    *testing.T
	path string
}

func newAccountsFile(t *testing.T, names ...string) accountsFile {
	t.Helper()
	a := accountsFile{t, filepath.Join(t.TempDir(), "accounts.yaml")}
	a.write(names...)
	return a
}

// write replaces the accounts.
func (a accountsFile) write(names ...string) {
	a.t.Helper()
	a.text(strings.Join(names, ": {}\n") + ": {}\n")
}

func (a accountsFile) text(text string) {
	a.t.Helper()
	if err := os.WriteFile(a.path+".next", []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.path+".next", a.path); err != nil {
		a.t.Fatal(err)
	}
}

// reportsOf is how many runs of an account have ended.
func (f *fixture) reportsOf(account string) int {
	f.t.Helper()
	n := 0
	for _, r := range f.reports() {
		if r.Account == account {
			n++
		}
	}
	return n
}

// unknown reports whether the service doesn't know an account.
func (f *fixture) unknown(account string) bool {
	f.t.Helper()
	_, err := control.RunReconcile(f.t.Context(), f.server.Connect(), control.Request{Source: "orders", Resource: "none"})
	return errors.Is(err, control.ErrUnknown) && !strings.Contains(err.Error(), "orders/"+account+"/order")
}

// An account that comes is reconciled, one that goes no more, and nobody
// restarts anything.
func TestAccountsComeAndGo(t *testing.T) {
	t.Parallel()
	file := newAccountsFile(t, "north")
	f := setupAccounts(t, "2s", "{file: "+file.path+"}")
	f.start()
	eventually(t, "north is reconciled", func() bool { return f.reportsOf("north") > 0 })
	file.write("north", "south")
	eventually(t, "south is reconciled", func() bool { return f.reportsOf("south") > 0 })
	file.write("south", "east")
	eventually(t, "north is unknown", func() bool { return f.unknown("north") })
	before, south := f.reportsOf("north"), f.reportsOf("south")
	eventually(t, "south goes on", func() bool { return f.reportsOf("south") > south+1 })
	if n := f.reportsOf("north"); n != before {
		t.Errorf("%d runs of north after it had gone", n-before)
	}
	if f.reportsOf("east") == 0 {
		t.Error("east was not reconciled")
	}
}

// Each account is listed with its own credential, or with the source's where it
// has none.
func TestAccountsAreListedWithTheirOwnCredentials(t *testing.T) {
	t.Parallel()
	file := newAccountsFile(t, "north")
	token := filepath.Join(filepath.Dir(file.path), "token")
	if err := os.WriteFile(token, []byte("of-north"), 0o600); err != nil {
		t.Fatal(err)
	}
	file.text("north: {api: {token: \"file:" + token + "\"}}\nsouth: {}\n")
	f := setupAccounts(t, "1h", "{file: "+file.path+"}")
	f.start()
	eventually(t, "both are reconciled", func() bool { return f.reportsOf("north") > 0 && f.reportsOf("south") > 0 })
	f.shop.mu.Lock()
	defer f.shop.mu.Unlock()
	for request, seen := range map[string]bool{
		"/north/orders Bearer of-north": true, "/south/orders ": true, "/north/orders ": false, "/south/orders Bearer of-north": false,
	} {
		if f.shop.proofs[request] != seen {
			t.Errorf("%q asked: %t, want %t", request, !seen, seen)
		}
	}
}

// A run in hand stops with its account.
func TestARunStopsWithItsAccount(t *testing.T) {
	t.Parallel()
	file := newAccountsFile(t, "north", "south")
	f := setupAccounts(t, "1h", "{file: "+file.path+"}")
	stopped := make(chan struct{}, 2)
	f.shop.set(func(ctx context.Context, page string) {
		if page == "3" {
			<-ctx.Done()
			stopped <- struct{}{}
		}
	})
	f.start()
	eventually(t, "both ask for their third page", func() bool { return strings.Count(f.shop.asked(), "3") == 2 })
	file.write("south")
	<-stopped
	eventually(t, "north is unknown", func() bool { return f.unknown("north") })
	select {
	case <-stopped:
		t.Error("the run of south has stopped too")
	default:
	}
}

// Very many accounts don't ask the source all at once, and all get their turn.
func TestManyAccountsTakeTurns(t *testing.T) {
	t.Parallel()
	const accounts = 60
	var names []string
	for i := range accounts {
		names = append(names, fmt.Sprintf("a%03d", i))
	}
	f := setupAccounts(t, "1h", "{file: "+newAccountsFile(t, names...).path+"}")
	f.start()
	reports, err := f.js.Stream(t.Context(), topology.StreamReports)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "every account is reconciled once", func() bool {
		info, err := reports.Info(t.Context())
		return err == nil && info.State.Msgs == accounts
	})
	if most := f.shop.most.Load(); most > 4 {
		t.Errorf("%d requests at once, want at most api.concurrency", most)
	}
}
