package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/services/enricher"
)

// asking notes what the API is asked for.
type asking struct {
	api enricher.Caller

	mu    sync.Mutex // guards paths
	paths []string   // each once, in the order of the first request
}

// Do asks the API.
func (a *asking) Do(ctx context.Context, r sourceapi.Request) (sourceapi.Answer, error) {
	line := cmp.Or(r.Method, http.MethodGet) + " " + requestPath(r)
	a.mu.Lock()
	if !slices.Contains(a.paths, line) {
		a.paths = append(a.paths, line)
	}
	a.mu.Unlock()
	return a.api.Do(ctx, r)
}

func requestPath(r sourceapi.Request) string {
	if len(r.Query) == 0 {
		return r.Path
	}
	return r.Path + "?" + r.Query.Encode()
}

// notAsked ends the error of a request that has no answer here.
const notAsked = "no answer is given"

// answers are given answers of an API, by path; nil is a 404.
type answers struct {
	byPath map[string][]byte
	// first answers the first request that no path answers, if it is set.
	first []byte
	at    time.Time // when the sample came

	mu        sync.Mutex // guards firstPath
	firstPath string
}

// Do returns the given answer.
func (a *answers) Do(_ context.Context, r sourceapi.Request) (sourceapi.Answer, error) {
	path := requestPath(r)
	body, ok := a.byPath[path]
	if !ok && a.first != nil {
		a.mu.Lock()
		a.firstPath = cmp.Or(a.firstPath, path)
		if a.firstPath == path {
			body, ok = a.first, true
		}
		a.mu.Unlock()
	}
	ans := sourceapi.Answer{Status: http.StatusOK, Header: http.Header{}, RequestedAt: a.at, ReceivedAt: a.at, ObservedAt: a.at}
	switch {
	case !ok:
		return ans, fmt.Errorf("%s %s: %s", cmp.Or(r.Method, http.MethodGet), path, notAsked)
	case body == nil:
		return ans, sourceapi.ErrNotFound
	}
	ans.Body = bytes.TrimSpace(body)
	if err := field.Valid(ans.Body); err != nil {
		return ans, fmt.Errorf("answer to %s: %w", path, err)
	}
	return ans, nil
}
