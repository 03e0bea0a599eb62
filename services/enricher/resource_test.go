package enricher_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// withOrder is a pipeline file with one resource, whose keys are given.
func withOrder(api, keys string) string {
	return `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{body}"}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    api: {base: "%s", allow_private: true, timeout: 5s` + api + `}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
` + keys
}

// one sends a trigger and returns the event that comes of it.
func (f *fixture) one(body string) enriched {
	f.t.Helper()
	f.start()
	f.send(trigger("order.paid", "evt_1"), body)
	f.eventually("an event", func() bool { return len(f.events()) == 1 })
	f.settled("orders")
	return f.events()[0]
}

const byQuery = `
        get: {graphql: {query: "query($id: ID!, $n: Int) {order(id: $id) {id version}}", variables: {id: "gid://{id}", n: body.order.id}}}
        record: data.order
        record_id: record.number
        version: record.version
`

func TestRecordByGraphQL(t *testing.T) {
	t.Parallel()
	var asked atomic.Value
	f := setup(t, withOrder("", byQuery), func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked.Store(r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body))
		fmt.Fprint(w, `{"data":{"order":{"id":"gid://7","number":7,"version":3}}}`)
	})
	e := f.one(order7)
	if want := `{"trigger":` + order7 + `,"record":{"id":"gid://7","number":7,"version":3}}`; e.body != want || e.RecordID != "7" {
		t.Errorf("event of %s: %s, want %s", e.RecordID, e.body, want)
	}
	want := `POST /graphql application/json {"query":"query($id: ID!, $n: Int) {order(id: $id) {id version}}","variables":{"id":"gid://7","n":7}}`
	if asked.Load() != want {
		t.Errorf("asked %s, want %s", asked.Load(), want)
	}
}

func TestWhatIsGoneBecomesATombstone(t *testing.T) {
	t.Parallel()
	const byPath = "        get: /orders/{id}\n        version: record.version\n"
	tests := map[string]struct{ api, keys, answer string }{
		"null by GraphQL":     {"", byQuery, `{"data":{"order":null}}`},
		"an error of GraphQL": {"", byQuery, `{"data":{"order":null},"errors":[{"type":"NOT_FOUND","message":"none"}]}`},
		"a sign in the record": {
			"", byPath + `        gone: {record.deleted: "true"}` + "\n", `{"id":7,"deleted":true}`,
		},
		"a code of the API's": {", failures: {code: error, classes: {no_order: gone}}", byPath, `{"ok":false,"error":"no_order"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, withOrder(tt.api, tt.keys), func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tt.answer) })
			if e := f.one(order7); !e.Deleted || e.Version != "" || e.ObservedAt.IsZero() || e.body != `{"trigger":`+order7+`,"record":null,"deleted":true}` {
				t.Errorf("got %+v with body %s", e.Event, e.body)
			}
		})
	}
}

// Answers that say that they failed are never taken for a record.
func TestFailuresInAnswersOfSuccess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer, reason string
		class          fault.Class
		attempts       int
	}{
		"in vain": {
			`{"data":{"order":{"id":"gid://7","number":7,"version":3}},"errors":[{"message":"secret","extensions":{"code":"ACCESS_DENIED"}}]}`,
			"order 7: POST orders /graphql: the answer says that it failed (permanent)", fault.Fatal, 1,
		},
		"may pass": {
			`{"errors":[{"extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`,
			"order 7: POST orders /graphql: the answer says that it failed: INTERNAL_SERVER_ERROR (transient)", fault.Exhausted, 2,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, withOrder("", byQuery), func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tt.answer) })
			f.cfg.MaxAttempts = 2
			f.start()
			f.send(trigger("order.paid", "evt_1"), order7)
			f.settled("orders")
			r, _ := f.reason()
			if r.Message != tt.reason || r.Class != tt.class || r.Attempts != tt.attempts || len(f.events()) > 0 {
				t.Errorf("reason %+v and %d events, want %s in attempt %d: %s", r, len(f.events()), tt.class, tt.attempts, tt.reason)
			}
		})
	}
}

// A query that the API has no points left for waits as long as it takes for them
// to come back, and costs no attempts.
func TestThrottledQueriesCostNoAttempts(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int64
	f := setup(t, withOrder("", byQuery), func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now().UnixNano()
		if first.CompareAndSwap(0, now) {
			fmt.Fprint(w, `{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{`+
				`"requestedQueryCost":200,"throttleStatus":{"maximumAvailable":1000,"currentlyAvailable":50,"restoreRate":50}}}}`)
			return
		}
		second.CompareAndSwap(0, now)
		fmt.Fprint(w, `{"data":{"order":{"number":7,"version":3}}}`)
	})
	f.cfg.MaxAttempts = 1
	f.one(order7)
	if wait := time.Duration(second.Load() - first.Load()); wait < 2900*time.Millisecond {
		t.Errorf("asked again after %s, want 3s: 150 points at 50 a second", wait)
	}
	if n := len(f.messages(topology.StreamDLQ)); n > 0 {
		t.Error("the trigger was given up")
	}
}

// Those that don't need each other are in flight together; who needs another one
// comes after it.
func TestRelatedRecordsComeInOrder(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	together := func() {
		both.Done()
		done := make(chan struct{})
		go func() { both.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("two that don't need each other were not in flight together")
		}
	}
	f := setup(t, withOrder("", `
        get: /orders/{id}
        version: record.version
        related:
          region: /regions/{related.team.region}/{related.customer.country}
          team: /teams/{related.customer.team}
          customer: /customers/{record.customer}
          notes: /orders/{id}/notes
          boss: {get: "/people/{related.team.boss}", optional: true}
          office: {get: "/offices/{related.boss.office}", optional: true}
`), func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/orders/7":
			fmt.Fprint(w, `{"id":7,"version":1,"customer":"c1"}`)
		case "/customers/c1":
			together()
			fmt.Fprint(w, `{"team":"t1","country":"de"}`)
		case "/orders/7/notes":
			together()
			fmt.Fprint(w, `[]`)
		case "/teams/t1":
			fmt.Fprint(w, `{"region":"r/1"}`)
		default:
			fmt.Fprintf(w, `%q`, r.URL.EscapedPath())
		}
	})
	e := f.one(order7)
	want := `"related":{"boss":null,"customer":{"team":"t1","country":"de"},"notes":[],"office":null,"region":"/regions/r%2F1/de","team":{"region":"r/1"}}}`
	if !strings.HasSuffix(e.body, want) {
		t.Errorf("body %s, want %s", e.body, want)
	}
}

func TestARelatedRecordThatFailsKeepsItsFollowersBack(t *testing.T) {
	t.Parallel()
	f := setup(t, withOrder("", `
        get: /orders/{id}
        version: record.version
        related: {customer: "/customers/{id}", team: "/teams/{related.customer.team}"}
`), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders/7" {
			fmt.Fprint(w, `{"id":7,"version":1}`)
			return
		}
		w.WriteHeader(422)
	})
	f.start()
	f.send(trigger("order.paid", "evt_1"), order7)
	f.settled("orders")
	if r, _ := f.reason(); r.Message != "order 7: related customer: GET orders /customers/7: status 422" || r.Class != fault.Fatal {
		t.Errorf("reason %+v, want that of the customer alone", r)
	}
}

const selected = `
        get: /orders/{id}
        select: [number, customer, "lines[].sku"]
        version: record.version
        related:
          customer: {get: "/customers/{record.customer}", merge: {replace: record.customer}}
          agent: {get: "/agents/{record.agent}", optional: true, merge: {replace: record.agent}}
          seat: {get: "/seats/{record.seat}", merge: {replace: record.place.seat}}
`

func selectedAPI() http.HandlerFunc {
	return answers(map[string]string{
		"/orders/7":     `{"id":7, "number": 1.50,"customer":"c1","seat":"s1","lines":[{"sku":"a","price":1},{"price":2}],"version":3}`,
		"/customers/c1": `{"name":"C"}`, "/seats/s1": `{"row":1}`,
	})
}

// Selection and merging splice bytes, and look at the whole record for ids,
// versions and references.
func TestRecordsAreSelectedAndMerged(t *testing.T) {
	t.Parallel()
	const record = `{"number":1.50,"customer":{"name":"C"},"lines":[{"sku":"a"},{}]},"related":{"agent":null,"seat":{"row":1}}}`
	t.Run("fetched", func(t *testing.T) {
		t.Parallel()
		f := setup(t, withOrder("", selected), selectedAPI())
		if e := f.one(order7); e.body != `{"trigger":`+order7+`,"record":`+record {
			t.Errorf("body %s, want %s", e.body, record)
		}
	})
	t.Run("in hand", func(t *testing.T) {
		t.Parallel()
		f := setup(t, withOrder("", selected), selectedAPI())
		f.start()
		e := trigger("order.reconciled", "reconcile:order:7:n0013")
		e.Origin, e.Resource, e.RecordID, e.Version, e.ObservedAt = event.Reconcile, "order", "7", "n0013", time.Now().UTC()
		f.send(e, `{"number": 1.50,"customer":"c1","seat":"s1","lines":[{"sku":"a","price":1},{"price":2}]}`)
		f.eventually("an event", func() bool { return len(f.events()) == 1 })
		if got := f.events()[0].body; got != `{"trigger":null,"record":`+record {
			t.Errorf("body %s, want %s", got, record)
		}
	})
}

func listed(next, limit string) string {
	return `
        get: /orders/{id}
        version: record.version
        related:
          lines: {list: {path: "/orders/{id}/lines", query: {state: all}, items: data, next: ` + next + limit + `}}
`
}

func TestRelatedListsArePagedUpToTheirCap(t *testing.T) {
	t.Parallel()
	pages := func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.URL.Path == "/orders/7":
			fmt.Fprint(w, `{"id":7,"version":1}`)
		case q.Get("state") != "all" || q.Get("size") != "2":
			w.WriteHeader(422)
		case q.Get("after") == "" && q.Get("skip") == "" && q.Get("last") == "":
			w.Header().Set("Link", `</orders/7/lines?state=all&size=2&after=p3>; rel="next"`)
			fmt.Fprint(w, `{"data":[1, 2],"next":"p2"}`)
		case q.Get("after") == "p2" || q.Get("skip") == "2" || q.Get("last") == "2":
			fmt.Fprint(w, `{"data":[3,4],"next":"p3"}`)
		case q.Get("after") == "p3" || q.Get("skip") == "4" || q.Get("last") == "4":
			fmt.Fprint(w, `{"data":[5]}`)
		default:
			fmt.Fprint(w, `{"data":null}`)
		}
	}
	const size = ", limit: {param: size, size: 2}"
	tests := map[string]struct{ next, limit, want string }{
		"by cursor":            {"{cursor: next, param: after}", size, `{"lines":[1,2,3,4,5]}}`},
		"by link":              {"{link: header}", size, `{"lines":[1,2,5]}}`},
		"by the last one's id": {"{after: last, value: record}", size, `{"lines":[1,2,3,4,5]}}`},
		"by offset":            {"{offset: skip}", size, `{"lines":[1,2,3,4,5]}}`},
		"as many as the cap":   {"{cursor: next, param: after}", size + ", max: 5", `{"lines":[1,2,3,4,5]}}`},
		"more than the cap":    {"{cursor: next, param: after}", size + ", max: 3", `{"lines":[1,2,3]},"truncated":["lines"]}`},
		"a cap between two pages": {
			"{cursor: next, param: after}", size + ", max: 4", `{"lines":[1,2,3,4]},"truncated":["lines"]}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, withOrder("", listed(tt.next, tt.limit)), pages)
			if e := f.one(order7); !strings.HasSuffix(e.body, `"related":`+tt.want) {
				t.Errorf("body %s, want %s", e.body, tt.want)
			}
		})
	}
}

// Promise 10: pages that are each small enough don't add up to more than one may
// have.
func TestPromise10RelatedListsAreBoundedInSum(t *testing.T) {
	t.Parallel()
	var pages atomic.Int32
	f := setup(t, withOrder(", max_body: 64KiB", listed("{cursor: next}", ", max: 10000")), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders/7" {
			fmt.Fprint(w, `{"id":7,"version":1}`)
			return
		}
		fmt.Fprintf(w, `{"data":[%q],"next":"%d"}`, strings.Repeat("x", 20<<10), pages.Add(1))
	})
	e := f.one(order7)
	if !strings.HasSuffix(e.body, `"truncated":["lines"]}`) || len(e.body) < 60<<10 || len(e.body) > 66<<10 || pages.Load() != 4 {
		t.Errorf("an event of %d bytes after %d pages of 20 KiB that ends in %s; want 3 of them, and that it says so",
			len(e.body), pages.Load(), e.body[len(e.body)-30:])
	}
}

// A list that never ends is not read for ever, and is not passed for a whole one.
func TestRelatedListsEnd(t *testing.T) {
	t.Parallel()
	serve := func(next func() string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/orders/7" {
				fmt.Fprint(w, `{"id":7,"version":1}`)
				return
			}
			fmt.Fprintf(w, `{"data":[],"next":%q}`, next())
		}
	}
	t.Run("that goes in a circle", func(t *testing.T) {
		t.Parallel()
		f := setup(t, withOrder("", listed("{cursor: next}", "")), serve(func() string { return "p1" }))
		f.cfg.MaxAttempts = 1
		f.start()
		f.send(trigger("order.paid", "evt_1"), order7)
		f.settled("orders")
		if r, _ := f.reason(); r.Message != "order 7: related lines: next page: one that was listed already" {
			t.Errorf("reason %+v", r)
		}
	})
	t.Run("of empty pages", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int32
		f := setup(t, withOrder("", listed("{cursor: next}", "")), serve(func() string { return fmt.Sprint(n.Add(1)) }))
		if e := f.one(order7); !strings.HasSuffix(e.body, `"related":{"lines":[]},"truncated":["lines"]}`) || n.Load() != 200 {
			t.Errorf("body %s after %d pages, want 200", e.body, n.Load())
		}
	})
}

// Promise 7: whatever gives a record its version, the greatest is the newest.
func TestPromise7VersionsFromElsewhereThanTheRecord(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request, state int, weak string) {
		w.Header().Set("ETag", fmt.Sprintf(`%s"%d"`, weak, state))
		w.Header().Set("Last-Modified", time.Date(2026, 3, 1, 0, 0, state, 0, time.UTC).Format(http.TimeFormat))
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, `{"seen":%d,"state":%d, "id":7}`, time.Now().UnixNano(), state)
	}
	tests := map[string]struct {
		version     string
		recognised  bool // equal states have equal marks
		repeatNewer bool // the same state seen again later is a newer version
	}{
		"header.ETag":          {"header.ETag", true, true},
		"header.Last-Modified": {"header.last-modified", true, false},
		"hash":                 {"hash\n        select: [state, id]", true, true},
		"event.time":           {"event.time", false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var state, calls atomic.Int32
			f := setup(t, withOrder("", "        get: /orders/{id}\n        version: "+tt.version+"\n"), func(w http.ResponseWriter, r *http.Request) {
				answer(w, r, int(state.Load()), []string{"", "", "W/"}[calls.Add(1)-1]) // as a proxy that compresses does
			})
			f.start()
			for i, s := range []int32{1, 2, 2} {
				state.Store(s)
				e := trigger("order.paid", fmt.Sprint("evt_", i))
				e.Time = time.Date(2026, 3, 1, 12, 0, i, 0, time.UTC)
				f.send(e, order7)
				f.eventually("its event", func() bool { return len(f.events()) == i+1 })
			}
			got := f.events()
			a, b, c := got[0].Version, got[1].Version, got[2].Version
			if b.Compare(a) <= 0 || (c.Compare(b) > 0) != tt.repeatNewer || c.Compare(b) < 0 {
				t.Errorf("versions %s, %s, %s don't grow as the record changes", a, b, c)
			}
			if at := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC); tt.version == "event.time" && b != event.TimeVersion(at) {
				t.Errorf("version %s, want that of the event's time %s", b, at)
			}
			if a.Mark() == b.Mark() || (b.Mark() == c.Mark()) != tt.recognised {
				t.Errorf("marks %s, %s, %s, want those of one state the same: %t", a.Mark(), b.Mark(), c.Mark(), tt.recognised)
			}
		})
	}
}

const expecting = `
        get: /orders/{id}
        version: record.version
        expect: body.order.version
`

const order7v3 = `{"id":"evt_1","kind":"order.paid","order":{"id":7,"version":3}}`

// A trigger that comes before its change can be seen waits for it. No cache gives
// it the old record again.
func TestTriggersThatComeTooEarlyWait(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]string{"the record is older": `{"id":7,"version":2}`, "the record isn't there": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			f := setup(t, withOrder("", expecting), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				switch {
				case n.Add(1) >= 3:
					fmt.Fprint(w, `{"id":7,"version":3}`)
				case early == "":
					w.WriteHeader(http.StatusNotFound)
				default:
					w.Header().Set("ETag", `"2"`)
					fmt.Fprint(w, early)
				}
			})
			f.cfg.MaxAttempts = 1
			if e := f.one(order7v3); e.body != `{"trigger":`+order7v3+`,"record":{"id":7,"version":3}}` || e.Deleted || n.Load() != 3 {
				t.Errorf("body %s after %d requests, want the record of the third", e.body, n.Load())
			}
		})
	}
}

// A source that keeps showing an older record is believed in the end, and the
// event says so: a trigger is never lost for it, nor tried for ever.
func TestRecordsThatStayOldArePassedOnAsStale(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	f := setup(t, withOrder("", expecting), func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		fmt.Fprint(w, `{"id":7,"version":2}`)
	})
	f.cfg.MaxAttempts = 2
	e := f.one(order7v3)
	want, _ := event.ParseVersion("2")
	if e.body != `{"trigger":`+order7v3+`,"record":{"id":7,"version":2},"stale":true}` || e.Version != want || n.Load() != 6 {
		t.Errorf("version %s with body %s after %d requests, want the old one marked as stale after 6", e.Version, e.body, n.Load())
	}
}

// What is gone for a trigger that speaks of a version is gone in the end.
func TestWhatStaysGoneBecomesATombstoneAllTheSame(t *testing.T) {
	t.Parallel()
	f := setup(t, withOrder("", expecting), answers(nil))
	if e := f.one(order7v3); !e.Deleted || f.asked("/orders/7") != 3 {
		t.Errorf("body %s after %d requests, want a tombstone after 3", e.body, f.asked("/orders/7"))
	}
}

func TestATriggerMayExpectNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, withOrder("", expecting), answers(map[string]string{"/orders/7": `{"id":7,"version":2}`}))
	if e := f.one(order7); strings.Contains(e.body, "stale") || f.asked("/orders/7") != 1 {
		t.Errorf("body %s after %d requests", e.body, f.asked("/orders/7"))
	}
}
