package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
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
	at := []string{"--api", p.ConsoleURL}
	r := &adminv1.Refusal{}
	until(t, "it is listed", func() bool {
		o := tercel(t, "", append([]string{"event", "refused", "--source", "orders", "--json"}, at...)...)
		return protojson.Unmarshal([]byte(o.out), r) == nil && r.GetSequence() > 0
	})
	if r.GetClaimedId() != "d-1" || r.GetStep() != "signature match" || r.GetRequestId() != resp.Header.Get("X-Request-Id") {
		t.Errorf("listed as %+v", r)
	}
	if out := ok(t, append([]string{"event", "refused"}, at...)...); !strings.Contains(out, "signature match") || !strings.Contains(out, "d-1") {
		t.Errorf("the list has no such request:\n%s", out)
	}
	n := fmt.Sprint(r.GetSequence())
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
	for _, id := range []string{"d-1", r.GetRequestId()} {
		if w := p.trace(id); w.GetStatus() != refused || len(w.GetSteps()) != 1 {
			t.Errorf("the timeline of %s is %v, want the refusal", id, w)
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
