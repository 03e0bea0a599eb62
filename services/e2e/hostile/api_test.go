package hostile_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// sourceAPI is the API of all sources: at /honest as it should be, at /NAME of an
// answer in the corpus as that says, until it is healed. What is called besides has
// no place in it.
type sourceAPI struct {
	url     string
	server  *httptest.Server
	canary  *httptest.Server // where nobody has been told to go
	answers map[string]answerer

	healed atomic.Bool
	astray atomic.Int64 // requests that the canary was sent

	mu      sync.Mutex        // guards what follows
	asked   map[string]int    // requests by the first part of their path
	paths   map[string]bool   // as they came, escaped
	records map[string]string // by id, for those that aren't simply made up
}

// answerer is how an API answers.
type answerer func(w http.ResponseWriter, r *http.Request)

func serveAPI(t *testing.T, answers func(canary string) map[string]answerer) *sourceAPI {
	t.Helper()
	a := &sourceAPI{asked: map[string]int{}, paths: map[string]bool{}, records: map[string]string{}}
	a.canary = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { a.astray.Add(1) }))
	if answers != nil {
		a.answers = answers(a.canary.URL)
	}
	srv := httptest.NewServer(a)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		a.canary.Close()
	})
	a.url, a.server = srv.URL, srv
	return a
}

// ServeHTTP takes paths as they come: no mux has made them decent.
func (a *sourceAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	escaped := r.URL.EscapedPath()
	name, rest, _ := strings.Cut(strings.TrimPrefix(escaped, "/"), "/")
	a.mu.Lock()
	a.asked[name]++
	a.paths[r.RequestURI] = true
	a.mu.Unlock()
	answer, ok := a.answers[name]
	switch {
	case name == "keys":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"error_code":"INVALID_WEBHOOK_VERIFICATION_KEY_ID"}`)
	case ok && !a.healed.Load():
		answer(w, r)
	default:
		a.honest(w, rest)
	}
}

// honest answers with the record that is asked for.
func (a *sourceAPI) honest(w http.ResponseWriter, rest string) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(rest, "list") {
		_, _ = fmt.Fprint(w, `{"items":[],"next":""}`)
		return
	}
	id, err := url.PathUnescape(strings.TrimPrefix(rest, "things/"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	record, ok := a.records[id]
	a.mu.Unlock()
	if !ok {
		text, _ := json.Marshal(id)
		record = fmt.Sprintf(`{"id":%s,"version":1}`, text)
	}
	_, _ = fmt.Fprint(w, record)
}

// hangUp ends all connections.
func (a *sourceAPI) hangUp() { a.server.CloseClientConnections() }

// requests is how often a name was asked for.
func (a *sourceAPI) requests(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[name]
}

// seen are the request lines so far.
func (a *sourceAPI) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]string, 0, len(a.paths))
	for path := range a.paths {
		all = append(all, path)
	}
	slices.Sort(all)
	return all
}
