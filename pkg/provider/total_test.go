package provider_test

import (
	"testing"

	"github.com/tercelhq/tercel/pkg/provider"
)

// What a list says of its length is an estimate: where it can't be read it is
// unknown, and the page is good all the same.
func TestListsTellTheirTotal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keys, body string
		want       int
	}{
		"a total":            {"items: a, next: n, total: meta.total", `{"a":[1],"n":"x","meta":{"total":420}}`, 420},
		"a total as text":    {"items: a, next: n, total: meta.total", `{"a":[1],"n":"x","meta":{"total":"420"}}`, 420},
		"no total this time": {"items: a, next: n, total: meta.total", `{"a":[1],"n":"x"}`, 0},
		"no number":          {"items: a, next: n, total: meta.total", `{"a":[1],"n":"x","meta":{"total":-1}}`, 0},
		"pages":              {"items: a, next: {page: p, pages: pages}, limit: {param: n, size: 50}", `{"a":[1],"pages":9}`, 450},
		"neither":            {"items: a, next: n", `{"a":[1],"n":"x","total":7}`, 0},
	} {
		list := mustSource(t, listed(tt.keys)).Resources["a"].Reconcile
		ask, err := list.Request("/a", provider.Place{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p, err := list.Page(ask, "https://api.example.com/v1", nil, []byte(tt.body))
		if err != nil || p.Total != tt.want || len(p.Records) != 1 {
			t.Errorf("%s: a total of %d, %v, want %d", name, p.Total, err, tt.want)
		}
	}
	if _, err := decode(listed("items: a, total: a[].b")); err == nil {
		t.Error("a total of many values is no fault")
	}
}
