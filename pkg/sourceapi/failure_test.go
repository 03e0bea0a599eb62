package sourceapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

var query = sourceapi.Request{Method: http.MethodPost, Path: "/graphql", Body: []byte(`{"query":"{a}"}`), GraphQL: true}

// What an answer says that failed has the fate that its status should have given,
// and the error says nothing that the server wrote.
func TestFailuresInAnswersHaveTheirFates(t *testing.T) {
	t.Parallel()
	const cost = `,"extensions":{"cost":{"requestedQueryCost":%d,"throttleStatus":{"currentlyAvailable":0,"restoreRate":10}}}}`
	tests := map[string]struct {
		status int
		answer string
		class  fault.Class // "" stands for no error
		gone   bool
		held   time.Duration // at least, and less than a tenth and a second more
	}{
		"none":                  {200, `{"data":{"a":1}}`, "", false, 0},
		"gone":                  {200, `{"errors":[{"type":"NOT_FOUND"}]}`, fault.Transient, true, 0},
		"in vain":               {200, `{"errors":[{"message":"hush"}]}`, fault.Fatal, false, 0},
		"in vain, with 400":     {400, `{"errors":[{"message":"hush"}]}`, fault.Fatal, false, 0},
		"400 of nothing":        {400, `<html>hush`, fault.Fatal, false, 0},
		"400 of no errors":      {400, `{"hush":1}`, fault.Fatal, false, 0},
		"gone, with 400":        {400, `{"errors":[{"message":"Entity not found: X"}]}`, fault.Transient, true, 0},
		"throttled":             {200, `{"errors":[{"extensions":{"code":"THROTTLED"}}]` + fmt.Sprintf(cost, 70), fault.Postponed, false, 7 * time.Second},
		"throttled, with 400":   {400, `{"errors":[{"extensions":{"code":"RATELIMITED"}}]}`, fault.Postponed, false, time.Second},
		"the last one for now":  {200, `{"data":{"a":1}` + fmt.Sprintf(cost, 30), "", false, 3 * time.Second},
		"a credential":          {200, `{"errors":[{"extensions":{"code":"UNAUTHENTICATED"}}]}`, fault.Postponed, false, 30 * time.Second},
		"a failure that passes": {200, `{"errors":[{"extensions":{"code":"INTERNAL_ERROR"}}]}`, fault.Transient, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.answer)
			})
			cfg := api(s.URL)
			cfg.Failures.Classes = map[string]provider.FailureClass{"Entity not found": provider.FailureGone}
			c := newClient(t, cfg, sourceapi.Deps{Now: newClock().now})
			_, err := c.Do(t.Context(), query)
			switch {
			case (err == nil) != (tt.class == ""), err != nil && fault.ClassOf(err) != tt.class, errors.Is(err, sourceapi.ErrNotFound) != tt.gone:
				t.Errorf("Do() = %v, want class %q, gone %t", err, tt.class, tt.gone)
			case err != nil && strings.Contains(err.Error(), "hush"):
				t.Errorf("Do() = %v, which tells what the server wrote", err)
			}
			if held := c.Held(); held < tt.held || held > tt.held+tt.held/10 {
				t.Errorf("held for %s, want %s", held, tt.held)
			}
		})
	}
}

// An answer that says that it failed is not kept, for whoever takes an older one.
func TestFailuresAreNotCached(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			fmt.Fprint(w, `{"ok":false,"error":"odd"}`)
			return
		}
		fmt.Fprint(w, `{"ok":true}`)
	})
	cfg := api(s.URL)
	cfg.CacheSize = 1 << 20
	cfg.Failures = mustFailures(t, "{code: error}")
	c := newClient(t, cfg, sourceapi.Deps{})
	r := sourceapi.Request{Path: "/a", MaxAge: time.Minute}
	if _, err := c.Do(t.Context(), r); !fault.IsPermanent(err) {
		t.Fatalf("Do() = %v, want a permanent error", err)
	}
	if ans, err := c.Do(t.Context(), r); err != nil || string(ans.Body) != `{"ok":true}` {
		t.Errorf("Do() = %s, %v", ans.Body, err)
	}
}

func mustFailures(t *testing.T, text string) provider.Failures {
	t.Helper()
	var f provider.Failures
	if err := config.Decode("failures.yaml", []byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return f
}
