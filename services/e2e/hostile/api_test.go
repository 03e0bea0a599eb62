package hostile_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
)

// sourceAPI is the API of all sources. Below /honest it answers as it should.
type sourceAPI struct {
	url string

	mu      sync.Mutex // guards what follows
	answers map[string]http.HandlerFunc
}

func serveAPI(t *testing.T) *sourceAPI {
	t.Helper()
	a := &sourceAPI{answers: map[string]http.HandlerFunc{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/honest/", honest)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

// honest answers with the record that is asked for.
func honest(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"id":%q,"version":1}`, path.Base(r.URL.Path))
}
