package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// A resource is on the overview and among the reconciliations with how far it is,
// what its last run found, and why it isn't run.
func TestResourcesAreShownWithTheirState(t *testing.T) {
	t.Parallel()
	f := setup(t)
	store, err := cursor.Open(t.Context(), f.js)
	if err != nil {
		t.Fatal(err)
	}
	key := cursor.Key{Source: "orders", Account: "north", Resource: "order"}
	through := time.Now().Add(-3 * time.Hour).UTC().Truncate(time.Second)
	save := func(c cursor.Cursor) {
		e, err := store.Load(t.Context(), key)
		if err == nil {
			_, err = store.Save(t.Context(), e, c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	save(cursor.Cursor{Window: &cursor.Window{Run: "run-1", To: through, Done: true}})
	save(cursor.Cursor{Through: through, OKAt: through})
	save(cursor.Cursor{
		Through: through, OKAt: through, StartedAt: time.Now().Add(-5 * time.Minute), Failures: 2,
		Window: &cursor.Window{Run: "run-2", From: through, To: through.Add(time.Hour), Pages: 4},
		Last:   cursor.Last{Run: "run-2", Error: "the list <broke> off"},
	})
	r := f.reader()
	r.signIn(operatorToken)
	shows := func(path string, want ...string) {
		t.Helper()
		p := r.get(path)
		for _, text := range want {
			if p.status != http.StatusOK || !strings.Contains(p.text, text) {
				t.Errorf("%s (%d) doesn't show %q:\n%.9000s", path, p.status, text, p.text)
			}
		}
	}
	shows("/", "orders/north/order", "3 h ago", "2 failures in a row", "5 min ago")
	shows("/reconciliation", "orders/north/order", "3 h ago", "2 failures in a row", "5 min ago", "unfinished window", "4 pages", `href="/reconciliation/run-2"`, "the list &lt;broke&gt; off", "Pause")

	form := url.Values{"source": {"orders"}, "account": {"north"}, "resource": {"order"}, "reason": {"the list is being mended"}}
	if p := r.do(http.MethodPost, "/reconciliation/pause", form); p.status != http.StatusOK || p.path != "/reconciliation" {
		t.Fatalf("paused: %d %s\n%s", p.status, p.path, p.text)
	}
	shows("/", "paused")
	shows("/reconciliation", "paused", `action="/reconciliation/resume"`, "Resume orders/north/order")
	if p := r.do(http.MethodPost, "/reconciliation/resume", form); p.status != http.StatusOK || strings.Contains(p.text, ">paused<") {
		t.Errorf("resumed: %d\n%s", p.status, p.text)
	}
	// A pause of the whole source is told to be that, and is ended as a whole.
	wide := url.Values{"source": {"orders"}, "reason": {"the whole source is being mended"}}
	if p := r.do(http.MethodPost, "/reconciliation/pause", wide); p.status != http.StatusOK {
		t.Fatalf("paused: %d %s\n%s", p.status, p.path, p.text)
	}
	shows("/reconciliation", "paused", "all of orders")
}
