package e2e_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/balancer"
	proc "github.com/tercelhq/tercel/services/internal/process"
	"github.com/tercelhq/tercel/services/internal/proof"
)

// Every service is replaced under load as a rolling upgrade does it: a new one
// starts beside the old one, which is asked to end once the new one is ready. No
// webhook is answered with an error meanwhile, nothing is lost and nothing doubled.
func TestRollingUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	provider, api := startProvider(t)
	provider.Heal() // what can't be fetched is another test's
	dir := t.TempDir()
	db, secrets := filepath.Join(dir, "orders.db"), []string{"ORDERS_SECRET=" + orderSecret, "ORDERS_TOKEN=" + orderToken}
	config := func(name, in string) string {
		file := filepath.Join(dir, name)
		text := fmt.Sprintf(orderConfig, api, db, filepath.Join(dir, "archive-"+name), in, freeAddr(t))
		// Long enough that the balancer notices, which a loaded machine delays.
		write(t, file, strings.Replace(text, "drain_grace: 0s", "drain_grace: 5s", 1))
		return file
	}
	in, newIn := freeAddr(t), freeAddr(t)
	d := startApart(t, config("old.yaml", in), in, secrets)
	b := balancer.Start()
	defer b.Close()
	b.Add(in, proc.Answers("http://"+healthOf(d.parts["ingress"])+"/readyz"))

	ran := make(chan error, 1)
	go func() { ran <- provider.Run(t.Context(), b.URL()+"/v1/orders") }()
	newConfig := config("new.yaml", newIn)
	for _, name := range stages {
		old, health := d.parts[name], freeAddr(t)
		d.parts[name] = &process{
			t: t, name: old.name, ready: answers("http://" + health + "/readyz"), env: secrets,
			args: []string{"--config", newConfig, "--nats", d.natsURL(), "--health", health},
		}
		d.parts[name].start()
		if name == "ingress" {
			b.Add(newIn, proc.Answers("http://"+health+"/readyz"))
		}
		old.stop()
		t.Logf("%s was replaced", name)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	destination, err := proof.Open(db, "orders", "order")
	if err != nil {
		t.Fatal(err)
	}
	defer destination.Close()
	eventually(t, 2*time.Minute, "everything is delivered", func() error {
		return complete(t.Context(), provider, destination, true)
	})
	if v := verdict(t, provider, destination); len(v.Doubled) > 0 || len(v.Refused) > 0 {
		t.Errorf("doubled %v, forged %v; want none", v.Doubled, v.Refused)
	}
	if n := b.Failed(); n > 0 {
		t.Errorf("%d webhooks were answered with an error of the server, want none", n)
	}
	t.Logf("%+v", provider.Book().Counts())
}

// healthOf is the address at which a process tells of its health.
func healthOf(p *process) string { return p.args[slices.Index(p.args, "--health")+1] }
