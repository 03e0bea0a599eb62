package ingress_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
)

// Promise 4: one id a thousand times at once, each on a connection of its own,
// is stored once at the synced level, and every sender hears a 2xx.
func TestStormOfOneIDIsStoredOnce(t *testing.T) {
	t.Parallel()
	const storm = 1000
	f := setup(t, func(c *ingress.Config) {
		maps.DeleteFunc(c.Sources, func(name string, _ provider.Source) bool { return name != "orders" })
		c.ReadTimeout, c.StoreTimeout = time.Minute, time.Minute // a slow machine is not what is tested
	})
	f.run()
	raw := string(f.delivery("orders", "evt-1", `{"kind":"order.paid"}`).raw())
	conns := make([]*wire, storm)
	for i := range conns {
		conns[i] = f.dial()
		_ = conns[i].SetDeadline(time.Now().Add(2 * time.Minute))
		conns[i].write(raw[:len(raw)-1])
	}
	for _, c := range conns { // all are in hand, each one byte short
		c.write(raw[len(raw)-1:])
	}
	count := map[string]int{}
	for _, c := range conns {
		res := c.answer()
		body := make([]byte, 1<<10)
		n, _ := res.Body.Read(body)
		r := readReply(t, res.StatusCode, res.Header, body[:n])
		if r.code != http.StatusOK || !strings.HasPrefix(r.ID, "evt-1") {
			t.Fatalf("answered %+v, want 200 with the event's id\n%s", r, f.log)
		}
		count[r.Status]++
	}
	if count["accepted"] != 1 || count["duplicate"] != storm-1 {
		t.Errorf("answers: %v, want 1 accepted and %d duplicates", count, storm-1)
	}
	if got := f.stored(); got != 1 {
		t.Errorf("%d messages stored, want 1", got)
	}
}
