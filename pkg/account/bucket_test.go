package account_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
)

const inBucket = "{bucket: tercel_accounts}"

// bucket is a bucket of accounts on a real server.
type bucket struct {
	t      *testing.T
	server *natstest.Server
	kv     jetstream.KeyValue
	source provider.Source
	box    *seal.Box
	folder string // with secrets
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{t: t, server: natstest.Start(t, false), source: source(t, inBucket), box: box(t), folder: t.TempDir()}
	b.open()
	return b
}

// box is what the services of tests open entries with.
func box(t testing.TB) *seal.Box {
	t.Helper()
	b, err := seal.New(sealKeys)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open makes the bucket if there is none.
func (b *bucket) open() {
	b.t.Helper()
	js, err := jetstream.New(b.server.Connect(), natstest.Patient())
	if err != nil {
		b.t.Fatal(err)
	}
	wait(b.t, "the bucket is made", func() bool { // a server that has just deleted one may refuse at first
		b.kv, err = js.CreateOrUpdateKeyValue(b.t.Context(), jetstream.KeyValueConfig{Bucket: "tercel_accounts", Storage: jetstream.FileStorage})
		return err == nil
	})
}

// sealed is an entry as the bucket has it.
func (b *bucket) sealed(name, entry string) []byte {
	b.t.Helper()
	value, err := account.Seal(b.box, "orders", b.source, name, "entry", []byte(entry))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func (b *bucket) put(name string, value []byte) {
	b.t.Helper()
	if _, err := b.kv.Put(b.t.Context(), "orders."+name, value); err != nil {
		b.t.Fatal(err)
	}
}

// Accounts of a bucket come, change and go at once.
func TestAccountsOfABucketComeAndGo(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	north := secret(t, b.folder, "north")
	b.put("north", b.sealed("north", "secrets: ["+north+"]\napi: {token: "+north+"}"))
	b.put("south.2", b.sealed("south.2", "{}"))
	if _, err := b.kv.Put(t.Context(), "others.east", b.sealed("east", "{}")); err != nil {
		t.Fatal(err)
	}
	set, log := open(t, b.source, b.server.Connect())
	if err := set.Loaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := set.Of("orders")
	for name, want := range map[string]string{
		"north": "1 keys, token the secret of north, which is long enough", "south.2": "0 keys", "east": unknown,
	} {
		if got := state(table, name); got != want {
			t.Errorf("%s at first: %s, want %s", name, got, want)
		}
	}
	b.put("east", b.sealed("east", "secrets: ["+north+", "+north+"]"))
	eventually(t, table, "east", "2 keys")
	b.put("east", []byte("secrets: []"))
	wait(t, "east is found broken", func() bool { return log.has("account=east had_one=true") })
	if got := state(table, "east"); got != "2 keys" {
		t.Errorf("east: %s, want its last good entry", got)
	}
	for _, name := range []string{"north", "south.2", "east"} {
		if err := b.kv.Delete(t.Context(), "orders."+name); err != nil {
			t.Fatal(err)
		}
		eventually(t, table, name, unknown)
	}
}

// Until the bucket was read nothing is known of its accounts, which is not the
// same as that there are none.
func TestNothingIsKnownOfABucketThatWasNotRead(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("north", b.sealed("north", "{}"))
	nc := b.server.Connect()
	b.server.Stop()
	set, _ := open(t, b.source, nc)
	if _, err := set.Of("orders").Find("north"); !errors.Is(err, account.ErrLoading) {
		t.Errorf("Find() = %v, want ErrLoading", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set.Loaded(ended); !errors.Is(err, account.ErrLoading) {
		t.Errorf("Loaded() = %v, want ErrLoading", err)
	}
	b.server.Resume()
	eventually(t, set.Of("orders"), "north", "0 keys")
	eventually(t, set.Of("orders"), "south", unknown)
}

// A server that goes away and comes back takes no account with it, and what
// was changed meanwhile, or behind its back, counts as soon as it is back.
func TestWatchingOutlivesTheServer(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for _, name := range []string{"north", "south", "east"} {
		b.put(name, b.sealed(name, "{}"))
	}
	nc := b.server.Connect()
	set, _ := open(t, b.source, nc)
	table := set.Of("orders")
	eventually(t, table, "east", "0 keys")
	for range 2 {
		b.server.Stop()
		wait(t, "the connection is lost", func() bool { return !nc.IsConnected() })
		if got := state(table, "north"); got != "0 keys" {
			t.Errorf("north without a server: %s, want it as it was", got)
		}
		b.server.Resume()
		b.open()
		if err := b.kv.Delete(t.Context(), "orders.south"); err != nil {
			t.Fatal(err)
		}
		eventually(t, table, "south", unknown)
		b.put("south", b.sealed("south", "secrets: ["+secret(t, b.folder, "south")+"]"))
		eventually(t, table, "south", "1 keys")
	}
}

// A bucket that was lost is no order to refuse everyone. One that was made anew
// has the say again with its first account.
func TestALostBucketRemovesNobody(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("north", b.sealed("north", "{}"))
	b.put("south", b.sealed("south", "{}"))
	nc := b.server.Connect()
	set, log := open(t, b.source, nc)
	table := set.Of("orders")
	eventually(t, table, "south", "0 keys")
	js, err := jetstream.New(b.server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "tercel_accounts"); err != nil {
		t.Fatal(err)
	}
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	wait(t, "a complaint", func() bool { return log.has("taken for a mistake") })
	if got := state(table, "north"); got != "0 keys" {
		t.Errorf("north: %s, want it as it was", got)
	}
	b.open()
	b.put("south", b.sealed("south", "{}"))
	eventually(t, table, "north", unknown)
	eventually(t, table, "south", "0 keys")
}

// Only who has a seal key can say what an account has, and only for the account
// that it was said for (promise 2).
func TestEntriesOfABucketMustBeSealed(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	other, err := seal.New([]config.Secret{config.NewSecret("a key that these services don't have")})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := account.Seal(other, "orders", b.source, "foreign", "entry", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	plainSecret := "plain:a secret that is not a reference"
	loose, err := b.box.Seal("account orders.loose", []byte("secrets: [file:/etc/hostname]"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]byte{
		"open": []byte("{}"), "plain": []byte("secrets: [" + plainSecret + "]"), "foreign": foreign, "moved": b.sealed("north", "{}"),
		"loose": loose, "text": []byte(base64.StdEncoding.EncodeToString(b.sealed("text", "{}"))), "void": nil,
		"huge": b.sealed("huge", "{}\n# "+strings.Repeat("x", 60<<10)), "good": b.sealed("good", "{}"),
	}
	for name, value := range values {
		b.put(name, value)
	}
	set, log := open(t, b.source, b.server.Connect())
	if err := set.Loaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name := range values {
		want := broken
		if name == "good" || name == "huge" { // comments aren't kept
			want = "0 keys"
		}
		if got := state(set.Of("orders"), name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if log.has(plainSecret) {
		t.Error("a secret was logged")
	}
}

// Promise 9: a bucket shows no secret, and what it has gives each one back as
// it was, whatever it consists of.
func TestPromise9SecretsAreSealedAndComeBack(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for _, text := range []string{
		"plain words, long enough", `quotes " and \ and '`, "<html> & \u2028", "line\nbreaks\r\nand\ttabs", "env:NOT_A_REFERENCE", "ümläut ☃ 🐦", "- : # {} []",
	} {
		path := filepath.Join(b.folder, "odd")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		value := b.sealed("odd", "api: {basic: {user: u, password: file:"+path+"}}")
		if strings.Contains(string(value), text) {
			t.Errorf("the sealed entry shows %q", text)
		}
		a, err := account.Unseal(b.box, "orders", b.source, "odd", value)
		if err != nil {
			t.Errorf("Unseal() of %q: %v", text, err)
		} else if got := a.API.Basic.Password.Reveal(); got != text {
			t.Errorf("Unseal() = %q, want %q", got, text)
		}
	}
}
