package provider_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// listed is a source with a list of the given keys.
func listed(keys string) string {
	return `
verify: {scheme: hmac-sha256, header: X-Sig}
secrets: [env:S]
event: {type: body.type}
api: {base: "https://api.example.com/v1"}
resources:
  a: {triggers: [a], id: body.id, get: "/a/{id}", version: record.v, reconcile: {list: /a, ` + keys + `}}
`
}

const search = `'{"filters":[{"value":""}],"sort":["updated"]}'`

func TestListsAreAskedForAsTheAPIWantsIt(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 26, 10, 20, 30, 500_000_000, time.UTC)
	to := from.Add(time.Hour)
	tests := map[string]struct {
		keys string
		at   provider.Place
		want string // method, path, query and body
	}{
		"nothing to say":           {"every: 1h", provider.Place{From: from, To: to}, "GET /a  "},
		"since":                    {"since: s", provider.Place{From: from, To: to}, "GET /a s=2026-11-26T10:20:30Z "},
		"since, exclusive":         {"since: {param: s, exclusive: true}", provider.Place{From: from, To: to}, "GET /a s=2026-11-26T10:20:29Z "},
		"since the beginning":      {"since: s", provider.Place{To: to}, "GET /a  "},
		"both ends":                {"since: {param: s, format: unix}, until: {param: u, format: unix}", provider.Place{From: from, To: to}, "GET /a s=1795688430&u=1795692031 "},
		"an end, exclusive":        {"until: {param: u, format: unix, exclusive: true}", provider.Place{To: to.Truncate(time.Second)}, "GET /a u=1795692031 "},
		"an end on the second":     {"until: {param: u, format: unix}", provider.Place{To: to.Truncate(time.Second)}, "GET /a u=1795692030 "},
		"milliseconds":             {"since: {param: s, format: unix_ms}", provider.Place{From: from, To: to}, "GET /a s=1795688430500 "},
		"days":                     {"overlap: 24h, since: {param: s, format: date}, until: {param: u, format: date}", provider.Place{From: from, To: to}, "GET /a s=2026-11-26&u=2026-11-27 "},
		"in a text":                {`since: {param: jql, format: minute, text: 'updated >= "{since}" AND updated <= "{until}"'}`, provider.Place{From: from, To: to}, `GET /a jql=updated >= "2026-11-26 10:20" AND updated <= "2026-11-26 11:21" `},
		"in a text, from 1970 on":  {`since: {param: q, text: "updated:>={since}"}`, provider.Place{To: to}, "GET /a q=updated:>=1970-01-01T00:00:00Z "},
		"a second state":           {"states: {param: state, values: [open, closed]}", provider.Place{State: 1, To: to}, "GET /a state=closed "},
		"a cursor":                 {"next: data.next", provider.Place{Position: "c&d", To: to}, "GET /a next=c&d "},
		"a page":                   {"next: {page: page, from: 0}, limit: {param: n, size: 50}", provider.Place{To: to}, "GET /a n=50&page=0 "},
		"a second page":            {"next: {page: page}, limit: {param: n, size: 50}", provider.Place{Position: "50", Full: 50, To: to}, "GET /a n=42&page=2 "},
		"of a size that was cut":   {"next: {page: page}, limit: {param: n, size: 100}", provider.Place{Position: "50", Full: 50, To: to}, "GET /a n=42&page=2 "},
		"of one cut to a few":      {"next: {page: page}, limit: {param: n, size: 100}", provider.Place{Position: "15", Full: 15, To: to}, "GET /a n=12&page=2 "},
		"begun again":              {"next: {page: page}, limit: {param: n, size: 100}", provider.Place{Position: "0", Full: 15, To: to}, "GET /a n=15&page=1 "},
		"after one record":         {"next: {page: page}, limit: {param: n, size: 100}", provider.Place{Position: "1", Full: 1, To: to}, "GET /a n=100&page=1 "},
		"a foreign position":       {"next: {page: page}, limit: {param: n, size: 50}", provider.Place{Position: "abc", To: to}, "GET /a n=50&page=1 "},
		"an offset":                {"next: {offset: skip}", provider.Place{Position: "92", To: to}, "GET /a skip=92 "},
		"a link":                   {"since: s, next: {link: header}, limit: {param: n}", provider.Place{Position: "/b?page=2", From: from, To: to}, "GET /b?page=2  "},
		"no link":                  {"next: {link: header}, limit: {param: n}", provider.Place{Position: "abc", To: to}, "GET /a n=100 "},
		"a first id":               {"next: {after: min_id, start: \"0\"}", provider.Place{To: to}, "GET /a min_id=0 "},
		"a last id":                {"next: {after: starting_after}", provider.Place{Position: "ch_1", To: to}, "GET /a starting_after=ch_1 "},
		"a query of GraphQL":       {`graphql: "query {a}", since: {param: s}, limit: {param: first, size: 5}, next: {connection: data.a}`, provider.Place{From: from, Position: "x", To: to}, `POST /a  {"query":"query {a}","variables":{"after":"x","first":5,"s":"2026-11-26T10:20:30Z"}}`},
		"its first page":           {`graphql: "query {a}", since: {param: s}, next: {connection: data.a}`, provider.Place{To: to}, `POST /a  {"query":"query {a}"}`},
		"a search, text as it was": {"body: " + search + ", since: {param: filters.0.value, format: unix}, limit: {param: page.limit}, query: {a: b}", provider.Place{From: from, To: to}, `POST /a a=b {"filters":[{"value":"1795688430"}],"page":{"limit":100},"sort":["updated"]}`},
		"a search, with an offset": {"body: " + search + ", next: {offset: after}", provider.Place{Position: "92", To: to}, `POST /a  {"after":92,"filters":[{"value":""}],"sort":["updated"]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustSource(t, listed(tt.keys)).Resources["a"].Reconcile
			ask, err := r.Request("/a", tt.at)
			if err != nil {
				t.Fatal(err)
			}
			query, err := url.QueryUnescape(ask.Query.Encode())
			if got := fmt.Sprintf("%s %s %s %s", ask.Method, ask.Path, query, ask.Body); err != nil || got != tt.want {
				t.Errorf("asks for\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// Settings that contradict each other are faults, at their line.
func TestContradictoryListsAreFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ keys, want string }{
		"two shapes":                  {"next: {cursor: a, page: page}", "one of cursor, offset, page, link, after and connection"},
		"no shape":                    {"next: {param: a}", "one of cursor"},
		"more with an offset":         {"next: {offset: a, more: b}", "reconcile.next.more: found \"b\", want cursor or after beside it"},
		"pages with a cursor":         {"next: {cursor: a, pages: b}", "next.pages"},
		"stable with a page":          {"next: {page: page, stable: true}, limit: {param: n}", "next.stable"},
		"a page without a size":       {"next: {page: page}", "limit: {param: NAME, size: 20 or more}"},
		"a page of a small size":      {"next: {page: page}, limit: {param: n, size: 19}", "size: 20 or more"},
		"a connection with GET":       {"next: {connection: data.a}", "graphql beside next"},
		"a link after a search":       {"body: " + search + ", next: {link: header}", "a link is followed with a GET"},
		"up and down":                 {"next: {after: min_id, of: first}, order: descending", "next.of"},
		"an overlap below a day":      {"since: {param: s, format: date}", "overlap: found 10m0s, want at least 24h0m0s"},
		"a slice without an end":      {"since: s, slice: 24h, start: 48h", "since and until beside it"},
		"a slice without a beginning": {"since: s, until: u, slice: 24h", "start beside it"},
		"a slice below a day":         {"overlap: 24h, since: {param: s, format: date}, until: u, slice: 1h, start: 48h", "slice: found 1h0m0s, want at least 24h0m0s"},
		"most without a total":        {"since: s, until: u, slice: {every: 1h, most: 5}, start: 48h", "most, a number of records, and total"},
		"an end twice":                {"since: {param: s, text: \"{since} {until}\"}, until: u", "nothing here, since since.text has it"},
		"a text without a time":       {"since: {param: s, text: all}", "a text with {since}"},
		"one state":                   {"states: {param: s, values: [open]}", "at least, two"},
		"a parameter twice":           {"since: a, until: a", "a parameter of its own: since.param has it"},
		"a parameter that is fixed":   {"since: a, query: {a: b}", "nothing here: since.param sets it"},
		"two bodies":                  {"body: " + search + ", graphql: \"query {a}\"", "either body or graphql"},
		"a body that is none":         {"body: '[1]'", "the text of a JSON object"},
		"a body with a name twice":    {"body: '{\"a\":1,\"a\":2}'", "the text of a JSON object"},
		"a place that isn't there":    {"body: " + search + ", since: filters.1.value", "the path of a member of the body"},
		"a place of another kind":     {"body: " + search + ", since: filters", "the path of a member of the body"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, listed(tt.keys))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "source.yaml:7:") {
				t.Errorf("fault %v, want one of line 7 with %q", err, tt.want)
			}
		})
	}
}

// Wherever a list of numbered pages is read up to, there is a page that begins in
// front of that place and ends behind it.
func TestNumberedPagesOverlap(t *testing.T) {
	t.Parallel()
	for size, records := range map[int]int{10: 2000, 12: 5000, 20: 5000, 21: 5000, 50: 5000, 100: 5000, 250: 5000} {
		r := mustSource(t, listed(fmt.Sprintf("next: {page: page}, limit: {param: n, size: %d}", max(size, 20)))).Resources["a"].Reconcile
		asked := 0
		for read := size; read < records; asked++ {
			ask, err := r.Request("/a", provider.Place{Position: fmt.Sprint(read), Full: size, To: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			var n, page int
			_, _ = fmt.Sscan(ask.Query.Get("n"), &n)
			_, _ = fmt.Sscan(ask.Query.Get("page"), &page)
			if ask.Front != n*(page-1) || ask.Front >= read || ask.Front+n <= read || n > size {
				t.Fatalf("page %d of %d records follows the first %d", page, n, read)
			}
			read = ask.Front + n
		}
		if most := records / (size / 3); asked > most {
			t.Errorf("%d pages of at most %d for %d records, want at most %d", asked, size, records, most)
		}
	}
}

// What an API answers leads to a page, to the end or to an error, never to another
// host and never to a panic.
func FuzzPage(f *testing.F) {
	var lists []provider.Reconcile
	for _, keys := range []string{
		`graphql: "query {a}", next: {connection: data.a}`, "items: data, next: {link: next}", "items: data, next: {link: header}",
		"items: data, next: {after: after, more: has_more}", "items: data, next: {cursor: next}", "items: data, next: {page: page, pages: pages}, limit: {param: n}",
		"items: data, since: s, until: u, start: 1h, slice: {every: 1h, most: 10, total: total}, next: {offset: o}",
	} {
		s, err := decode(listed(keys))
		if err != nil {
			f.Fatal(err)
		}
		lists = append(lists, *s.Resources["a"].Reconcile)
	}
	f.Add([]byte(`{"data":{"a":{"nodes":[{"id":1}],"pageInfo":{"hasNextPage":true,"endCursor":"x"}}}}`), "")
	f.Add([]byte(`{"data":[{"id":1}],"next":"https://api.example.com/v1/a?page=2","has_more":true,"pages":3,"total":4}`), `</v1/a?page=2>; rel=next`)
	f.Fuzz(func(t *testing.T, body []byte, link string) {
		if field.Valid(body) != nil {
			return // which the client finds out
		}
		for i, r := range lists {
			p, err := r.Page(provider.PageRequest{Path: "/a", Want: 100}, "https://api.example.com/v1", http.Header{"Link": {link}}, body)
			if err != nil || p.Next == "" {
				continue
			}
			if r.Next.Shape() == provider.ByLink && !strings.HasPrefix(p.Next, "/") {
				t.Errorf("list %d: next page %q", i, p.Next)
			}
			if _, err := r.Request("/a", provider.Place{Position: p.Next, To: time.Unix(0, 0)}); err != nil {
				t.Errorf("list %d: request for %q: %v", i, p.Next, err)
			}
		}
	})
}

func ExampleReconcile_Request() {
	s, _ := decode(listed("since: updated_after, next: {page: page}, limit: {param: per_page}"))
	list := s.Resources["a"].Reconcile
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, position := range []string{"", "100"} {
		ask, _ := list.Request("/orders", provider.Place{From: noon.Add(-time.Hour), To: noon, Position: position, Full: 100})
		fmt.Println(ask.Method, ask.Path, ask.Query.Encode())
	}
	// Output:
	// GET /orders page=1&per_page=100&updated_after=2026-11-26T11%3A00%3A00Z
	// GET /orders page=2&per_page=92&updated_after=2026-11-26T11%3A00%3A00Z
}
