package nettest_test

import (
	"crypto/tls"
	"net/http"
	"slices"
	"testing"

	"github.com/tercelhq/tercel/services/ingress/internal/nettest"
)

// Every host is there, with a certificate of its own.
func TestWorld(t *testing.T) {
	t.Parallel()
	w := nettest.New(t)
	w.Answer(http.StatusTeapot, "")
	client := &http.Client{Transport: &http.Transport{DialContext: w.Dial, TLSClientConfig: &tls.Config{RootCAs: w.Roots()}}}
	for _, url := range []string{"https://a.example.com/x?y", "http://b.example.com/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusTeapot {
			t.Errorf("%s answered %d", url, resp.StatusCode)
		}
	}
	if got, want := w.Calls(), []string{"a.example.com/x?y", "b.example.com/"}; !slices.Equal(got, want) {
		t.Errorf("Calls() = %q, want %q", got, want)
	}
}
