package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

const setupFile = `
sources:
  orders: {verify: {scheme: none, insecure: true}, event: {id: body.id, type: body.kind}, accounts: {bucket: shops}}
streams: {setup: command}
seal_keys: [env:HOME]
teams: {billing: {subscribe: ["orders.>"]}}
`

// What is missing is made, and made once; a dry run makes nothing.
func TestSetup(t *testing.T) {
	t.Setenv("HOME", "a seal key of more than thirty-two characters")
	server := natstest.Start(t, false)
	file := filepath.Join(t.TempDir(), "tercel.yaml")
	if err := os.WriteFile(file, []byte(setupFile), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"setup", "-c", file, "--nats", server.URL()}
	if out := ok(t, append(args, "--dry-run")...); strings.Contains(out, "set up") || !strings.Contains(out, "stream TERCEL_RAW: missing") {
		t.Errorf("a dry run printed\n%s", out)
	}
	js, err := jetstream.New(server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	all := len(topology.Streams(topology.DefaultConfig())) + len(topology.Buckets(topology.DefaultConfig()))
	missing := func() int {
		changes, err := topology.Diff(t.Context(), js, topology.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		return len(changes)
	}
	if got := missing(); got != all {
		t.Errorf("%d are missing after a dry run, want all %d", got, all)
	}
	for _, want := range []string{fmt.Sprint(all, " changes, 1 teams"), " 0 changes, 1 teams"} {
		if out := ok(t, args...); !strings.Contains(out, want) {
			t.Errorf("setup printed\n%swant %s", out, want)
		}
	}
	if got := missing(); got != 0 {
		t.Errorf("%d are missing after setup", got)
	}
	if _, err := js.KeyValue(t.Context(), "shops"); err != nil {
		t.Errorf("the bucket of accounts: %v", err)
	}
	cons, err := js.Consumer(t.Context(), topology.StreamEnriched, "team_billing")
	if err != nil {
		t.Fatal(err)
	}
	if got := cons.CachedInfo().Config; got.FilterSubject != "tercel.enriched.orders.>" || got.AckPolicy != jetstream.AckExplicitPolicy || got.MaxDeliver != -1 {
		t.Errorf("the team's consumer is %+v", got)
	}
}

// Seeds are made once and readable by their owner alone; what the servers
// include has public keys, and changes with its seed.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	first := ok(t, "keys", dir)
	public := map[string]string{}
	for _, user := range natsUsers {
		seed, err := os.ReadFile(filepath.Join(dir, "seeds", user+".nk"))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := nkeys.ParseDecoratedNKey(seed)
		if err != nil {
			t.Fatal(err)
		}
		if public[user], err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
		conf, err := os.ReadFile(filepath.Join(dir, "users", user+".conf"))
		if want, _ := json.Marshal(public[user]); err != nil || string(conf) != "nkey: "+string(want)+"\n" {
			t.Errorf("users/%s.conf has %q, %v; want the key %s", user, conf, err, want)
		}
		if strings.Contains(first, strings.TrimSpace(string(seed))) {
			t.Errorf("the seed of %s was printed", user)
		}
	}
	for _, secret := range []string{"store.conf", "seeds/ingress.nk"} {
		if fi, err := os.Stat(filepath.Join(dir, secret)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is readable as %v, %v; want 0600", secret, fi.Mode(), err)
		}
	}
	store, err := os.ReadFile(filepath.Join(dir, "store.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "seeds", "sink.nk")); err != nil {
		t.Fatal(err)
	}
	again := ok(t, "keys", dir)
	for _, user := range natsUsers {
		if kept := strings.Contains(again, user+": kept, "+public[user]); kept == (user == "sink") {
			t.Errorf("%s was kept: %t\n%s", user, kept, again)
		}
	}
	if now, err := os.ReadFile(filepath.Join(dir, "store.conf")); err != nil || string(now) != string(store) {
		t.Errorf("the key of the store has changed (%v): nothing could be read any more", err)
	}
	if o := tercel(t, "", "keys", dir, "../evil"); o.code == 0 || !strings.Contains(o.err, "lower-case") {
		t.Errorf("a user named ../evil: %+v", o)
	}
}
