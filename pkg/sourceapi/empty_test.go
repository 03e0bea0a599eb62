package sourceapi_test

import (
	"net/http"
	"testing"

	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// An answer that only says that something is going to be done needs no body, and
// one that has a body is read all the same.
func TestAnswersThatMayBeEmpty(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		fails  bool
	}{
		"202 and nothing":   {http.StatusAccepted, "", false},
		"204":               {http.StatusNoContent, "", false},
		"202 and an object": {http.StatusAccepted, "{}", false},
		"a page":            {http.StatusOK, "<html>maintenance</html>", true},
		"422":               {http.StatusUnprocessableEntity, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			posted := 0
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					posted++
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			ans, err := newClient(t, api(s.URL), sourceapi.Deps{}).Do(t.Context(), sourceapi.Request{Method: http.MethodPost, Path: "/attempts", Empty: true})
			if (err != nil) != tt.fails || posted != 1 {
				t.Errorf("Do() = %+v, %v after %d requests, want an error: %t", ans, err, posted, tt.fails)
			}
			if err == nil && (ans.Status != tt.status || string(ans.Body) != tt.body) {
				t.Errorf("answer %d %q", ans.Status, ans.Body)
			}
		})
	}
}
