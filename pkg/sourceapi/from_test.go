package sourceapi_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// An answer says where it came from, and how many requests it took.
func TestAnswersSayWhereTheyCameFrom(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	release, arrived := make(chan struct{}), make(chan struct{}, 2)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			arrived <- struct{}{}
			<-release
		case broken.CompareAndSwap(true, false):
			w.WriteHeader(http.StatusBadGateway)
			return
		case r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Etag", `"1"`)
		fmt.Fprint(w, `{"id":1}`)
	})
	cfg := api(s.URL)
	cfg.CacheSize = 1 << 20
	c := newClient(t, cfg, sourceapi.Deps{})
	check := func(what string, r sourceapi.Request, tries int, from event.FetchedFrom) {
		t.Helper()
		if ans, err := c.Do(t.Context(), r); err != nil || ans.Tries != tries || ans.From != from || ans.Status != http.StatusOK {
			t.Errorf("%s: %d requests, from %s, status %d, %v; want %d from %s", what, ans.Tries, ans.From, ans.Status, err, tries, from)
		}
	}
	check("the first", sourceapi.Request{Path: "/a"}, 1, event.FromSource)
	check("asked again", sourceapi.Request{Path: "/a"}, 1, event.FromUnchanged)
	check("within the age", sourceapi.Request{Path: "/a", MaxAge: time.Hour}, 0, event.FromCache)
	broken.Store(true)
	check("after a failure", sourceapi.Request{Path: "/b"}, 2, event.FromSource)

	froms := make(chan sourceapi.Answer, 2)
	for range 2 {
		go func() {
			ans, err := c.Do(t.Context(), sourceapi.Request{Path: "/slow", MaxAge: time.Hour, Gather: 10 * time.Millisecond})
			if err != nil {
				t.Error(err)
			}
			froms <- ans
		}()
	}
	<-arrived
	// The second call joins the first one's request as long as that is out; both
	// are let go once it can't come any more.
	await(t, "both calls wait", func() bool { return c.Waiting() == 2 })
	close(release)
	a, b := <-froms, <-froms
	if a.Tries+b.Tries != 1 || a.From == b.From || a.From != event.FromShared && b.From != event.FromShared {
		t.Errorf("of two calls at once one took %d requests from %s, the other %d from %s; want one request, shared", a.Tries, a.From, b.Tries, b.From)
	}
}
