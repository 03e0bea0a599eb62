package ingress_test

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/services/ingress"
)

// What became of requests is stored when the service ends at the latest, by
// source and outcome; a stranger's names are not in it.
func TestOutcomesOfRequestsAreKept(t *testing.T) {
	t.Parallel()
	began := time.Now()
	f := setupWith(t, ingress.Deps{Now: time.Now})
	stop := f.run()
	serving := time.Now()
	post := func(path, signature string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.service.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Signature", signature)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	for range 3 {
		post("/v1/rotating", "00")
	}
	post("/v1/nobody", "00")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	h, err := intake.Read(t.Context(), f.jetstream(), began, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Counts("rotating", began, time.Now()); !maps.Equal(got, intake.Counts{"refused_signature": 3}) {
		t.Errorf("counts %v, want 3 of refused_signature", got)
	}
	if got := h.Counts("nobody", began, time.Now()); len(got) != 0 {
		t.Errorf("counts of a stranger's name: %v", got)
	}
	if up, known := h.Up(serving); !up || !known {
		t.Errorf("Up() = %t, %t while it ran", up, known)
	}
}
