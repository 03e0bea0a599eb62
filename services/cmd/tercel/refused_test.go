package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/refusal"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// Whoever debugs a signature finds the request that was refused, by what the
// provider knows of it, and reads why.
func TestARefusedRequestIsExplained(t *testing.T) {
	t.Parallel()
	p := startLive(t, startShop(t), liveOptions{})
	req := p.request("d-1", `{"type":"order.paid","id":"1"}`)
	req.Body = io.NopCloser(strings.NewReader(`{"type":"order.void","id":"1"}`)) // changed on the way
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("answered %s", resp.Status)
	}
	at := []string{"--data", p.data}
	var r refusal.Record
	until(t, "it is listed", func() bool {
		o := tercel(t, "", append([]string{"event", "refused", "--source", "orders", "--json"}, at...)...)
		return json.Unmarshal([]byte(o.out), &r) == nil
	})
	if r.ClaimedID != "d-1" || r.Step != "signature match" || r.RequestID != resp.Header.Get("X-Request-Id") {
		t.Errorf("listed as %+v", r)
	}
	if out := ok(t, append([]string{"event", "refused"}, at...)...); !strings.Contains(out, "signature match") || !strings.Contains(out, "d-1") {
		t.Errorf("the list has no such request:\n%s", out)
	}
	n := fmt.Sprint(r.Sequence)
	for _, args := range [][]string{{"event", "refused", n}, {"verify", "--source", "orders", "--refused", n}} {
		o := tercel(t, "", append(args, at...)...)
		if want := map[string]int{"event": boot.OK, "verify": boot.Failed}[args[0]]; o.code != want {
			t.Errorf("%v: exit %d, want %d: %s", args, o.code, want, o.err)
		}
		for _, want := range []string{"failed", "signature match", "refused with 401", "X-Signature: ", "file:", `{"type":"string","id":"string"}`, "The secret is another one"} {
			if !strings.Contains(o.out, want) {
				t.Errorf("%v has no %q:\n%s", args, want, o.out)
			}
		}
		if strings.Contains(o.out, "order.void") {
			t.Errorf("%v has the body:\n%s", args, o.out)
		}
	}
	for _, id := range []string{"d-1", r.RequestID} {
		if w := decode[timeline.Timeline](t, append([]string{"event", "trace", id}, at...)...); w.State != timeline.Refused || len(w.Entries) != 1 {
			t.Errorf("the timeline of %s is %+v, want the refusal", id, w)
		}
	}
	if o := tercel(t, "", append([]string{"verify", "--source", "shop", "--refused", n}, at...)...); o.code != boot.Failed || !strings.Contains(o.err, "source orders") {
		t.Errorf("of another source: %+v", o)
	}
	if o := tercel(t, "", append([]string{"verify", "--source", "orders"}, at...)...); o.code != boot.Usage {
		t.Errorf("verify of nothing: %+v", o)
	}
	if o := tercel(t, "", append([]string{"event", "refused", "99"}, at...)...); o.code != boot.Failed || !strings.Contains(o.err, "no such refused request") {
		t.Errorf("one that isn't there: %+v", o)
	}
	if o := tercel(t, "", append([]string{"event", "refused", "--since", "soon"}, at...)...); o.code != boot.Usage {
		t.Errorf("an age that is none: %+v", o)
	}
}
