package e2e_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/proof"
)

// At the relaxed level a power cut can leave consumers that have come further than
// their streams reach, because it's chance what of it had got to the disk. What is
// taken from then on, under the numbers of what was lost, is delivered all the
// same. (Promise 3.)
func TestAPipelineThatLostTheEndsOfItsStreamsGoesOn(t *testing.T) {
	t.Parallel()
	_ = os.RemoveAll(logDir(t)) // left by a run that failed; logs are read here
	p := newPowered(t, 1)
	p.relax()
	p.startNodes()
	provider, api := startProviderOf(t, 1500)
	provider.Heal() // what can't be fetched is another test's
	text, db, in, console, env := secureOrders(t, api, t.TempDir())
	parts := securely(t, p.folder, p.urls, text, in, console, env)
	ran := make(chan error, 1)
	go func() { ran <- provider.Run(t.Context(), "http://"+in+"/v1/orders") }()
	destination, err := proof.Open(db, "orders", "order")
	if err != nil {
		t.Fatal(err)
	}
	defer destination.Close()
	delivered := func(n int) {
		eventually(t, 2*time.Minute, fmt.Sprintf("%d events are delivered", n), func() error {
			if got, _ := destination.Size(t.Context()); got < n {
				return fmt.Errorf("%d are", got)
			}
			return nil
		})
	}
	delivered(100)
	p.sync()
	delivered(400)
	p.cut("jetstream/TERCEL/streams/TERCEL_*/obs/*/o.dat")
	cut := time.Now()
	for _, durable := range []string{topology.EnrichDurable("orders"), topology.DeliverDurable("database")} {
		p.ahead(durable)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	since := map[string]bool{}
	for _, d := range provider.Book().Deliveries {
		if d.Taken() && d.SentAt.After(cut) {
			since[d.ID] = true
		}
	}
	if len(since) == 0 {
		t.Fatal("nothing was taken after the power cut")
	}
	eventually(t, 3*time.Minute, "what was taken after the power cut is delivered", func() error {
		missing := slices.DeleteFunc(verdict(t, provider, destination).Undelivered, func(text string) bool {
			id, _, _ := strings.Cut(text, " ")
			return !since[id]
		})
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d are not, such as %q", len(missing), len(since), missing[:min(3, len(missing))])
		}
		return nil
	})
	for _, part := range parts {
		part.stop()
	}
}

// ahead checks that a server has found a consumer ahead of its stream.
func (p *powered) ahead(durable string) {
	p.t.Helper()
	text, err := os.ReadFile(p.nodes[0].log)
	if found := regexp.MustCompile(durable + `' delivered sequence \d+ past last stream sequence of \d+`).Find(text); err != nil || found == nil {
		p.t.Errorf("the server doesn't tell that %s was ahead of its stream: %v", durable, err)
	} else {
		p.t.Logf("%s", found)
	}
}
