package ingress_test

import (
	"fmt"
	"net/http"
	"testing"
)

// One account above its rate takes nothing from its neighbours.
func TestEachAccountHasItsRate(t *testing.T) {
	t.Parallel()
	f := setup(t, reading(t, fmt.Sprintf(plain, "accounts: [north, south]\n    account_limit: {requests: 2, per: 1h}\n    limit: {requests: 3, per: 1h}")))
	n := 0
	for i, tt := range []struct {
		account string
		want    int
	}{
		{"north", http.StatusOK},
		{"north", http.StatusOK},
		{"north", http.StatusTooManyRequests},
		{"north", http.StatusTooManyRequests},
		{"south", http.StatusOK},
		{"south", http.StatusTooManyRequests}, // the source's rate
	} {
		n++
		d := f.delivery("plain", "", fmt.Sprintf(`{"kind":"k","id":"%d"}`, n))
		d.path += "/" + tt.account
		if r := f.send(d); r.code != tt.want {
			t.Errorf("request %d, of %s: answered %d, want %d", i+1, tt.account, r.code, tt.want)
		}
	}
}
