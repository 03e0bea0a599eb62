package run_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// row is a record of a table that is listed.
type row struct {
	ID      string    `json:"id"`
	Updated time.Time `json:"updated_at"`
	State   string    `json:"state"`
}

// table is what an API lists. It refuses what it doesn't know: a parameter too
// many, a page too large, a cursor that it hasn't given.
type table struct {
	url    string
	now    func() time.Time
	order  string // ascending and descending by the time of change, else by id
	answer answer

	mu     sync.Mutex
	rows   map[string]row
	asked  int
	change func(n int, rows map[string]row) // before the nth request
}

// query is what a request asks for.
type query struct {
	url.Values
	path string
	body map[string]any
}

// answer answers a query over the rows in the list's order.
type answer func(t *table, q query, rows []row, h http.Header) (any, error)

var errExpired = errors.New("no such cursor")

func newTable(t *testing.T, f *fixture, order string, a answer) *table {
	t.Helper()
	tab := &table{now: f.clock, order: order, answer: a, rows: map[string]row{}}
	srv := httptest.NewServer(tab)
	t.Cleanup(srv.Close)
	tab.url = srv.URL + "/v1"
	f.base = tab.url
	return tab
}

func (t *table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.change != nil {
		t.change(t.asked, t.rows)
	}
	t.asked++
	w.Header().Set("Date", t.now().UTC().Format(http.TimeFormat))
	q := query{Values: r.URL.Query(), path: r.URL.Path}
	if q.path != "/v1/orders" {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&q.body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	rows := make([]row, 0, len(t.rows))
	for _, o := range t.rows {
		rows = append(rows, o)
	}
	slices.SortFunc(rows, t.compare)
	body, err := t.answer(t, q, rows, w.Header())
	switch {
	case errors.Is(err, errExpired):
		w.WriteHeader(http.StatusGone)
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	default:
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (t *table) compare(a, b row) int {
	byTime := a.Updated.Compare(b.Updated)
	switch t.order {
	case "ascending":
		return cmp.Or(byTime, cmp.Compare(a.ID, b.ID))
	case "descending":
		return cmp.Or(-byTime, -cmp.Compare(a.ID, b.ID))
	default:
		return cmp.Compare(a.ID, b.ID)
	}
}

// only refuses parameters that the API doesn't know.
func (q query) only(known ...string) error {
	for name := range q.Values {
		if !slices.Contains(known, name) {
			return fmt.Errorf("parameter %s", name)
		}
	}
	return nil
}

// number reads a parameter, or what it is without one.
func (q query) number(name string, without int) (int, error) {
	if !q.Has(name) {
		return without, nil
	}
	return strconv.Atoi(q.Get(name))
}

// since keeps the rows from the time in a parameter on, or behind it.
func (q query) since(rows []row, exclusive bool) ([]row, error) {
	if !q.Has("since") {
		return rows, nil
	}
	at, err := time.Parse(time.RFC3339, q.Get("since"))
	return slices.DeleteFunc(rows, func(o row) bool {
		return o.Updated.Before(at) || exclusive && o.Updated.Equal(at)
	}), err
}

func cut(rows []row, from, size int) []row {
	return rows[min(from, len(rows)):min(from+size, len(rows))]
}

// key is a cursor that names a row's place, whether or not the row is there.
func key64(o row) string {
	return base64.URLEncoding.EncodeToString([]byte(o.Updated.Format(time.RFC3339Nano) + " " + o.ID))
}

// behind are the rows behind a cursor.
func (t *table) behind(rows []row, cursor string) ([]row, error) {
	if cursor == "" {
		return rows, nil
	}
	text, err := base64.URLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, err
	}
	at, id, _ := strings.Cut(string(text), " ")
	k := row{ID: id}
	if k.Updated, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(o row) bool { return t.compare(o, k) <= 0 }), nil
}

// byCursor answers with an opaque cursor.
func byCursor(t *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("since", "cursor"); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, false)
	if err == nil {
		rows, err = t.behind(rows, q.Get("cursor"))
	}
	page := cut(rows, 0, 7)
	next := any(nil)
	if len(rows) > len(page) {
		next = key64(page[len(page)-1])
	}
	return map[string]any{"orders": page, "meta": map[string]any{"next": next}}, err
}

// byOffset answers with a number of records to pass over.
func byOffset(_ *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("since", "offset", "limit"); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, true)
	from, errFrom := q.number("offset", 0)
	size, errSize := q.number("limit", 5)
	return map[string]any{"orders": cut(rows, from, min(size, 20))}, errors.Join(err, errFrom, errSize)
}

// byPage answers with numbered pages and how many there are.
func byPage(_ *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("since", "page", "per_page"); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, false)
	number, errNumber := q.number("page", 1)
	size, errSize := q.number("per_page", 20)
	if size > 100 || size < 1 || number < 1 {
		return nil, errors.New("no such page")
	}
	return map[string]any{"orders": cut(rows, (number-1)*size, size), "pages": (len(rows) + size - 1) / size},
		errors.Join(err, errNumber, errSize)
}

// byCappedPage answers like byPage, with no more than ten records a page.
func byCappedPage(t *table, q query, rows []row, h http.Header) (any, error) {
	if size, err := q.number("per_page", 10); err == nil {
		q.Set("per_page", strconv.Itoa(min(size, 10)))
	}
	return byPage(t, q, rows, h)
}

// byNumberedLink answers like GitHub: its links count pages.
func byNumberedLink(t *table, q query, rows []row, h http.Header) (any, error) {
	if err := q.only("since", "page"); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, false)
	number, errNumber := q.number("page", 1)
	q.Set("page", strconv.Itoa(number+1))
	if number*7 < len(rows) {
		h.Set("Link", `<`+t.url+`/orders?page=1>; rel="first", <`+t.url+`/orders?`+q.Encode()+`>; rel="next"`)
	}
	return cut(rows, (number-1)*7, 7), errors.Join(err, errNumber)
}

// byLink answers like Shopify: its links name a place and drop the filter.
func byLink(t *table, q query, rows []row, h http.Header) (any, error) {
	known := []string{"since"}
	if q.Has("page_info") {
		known = []string{"page_info"}
	}
	if err := q.only(known...); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, false)
	if err == nil {
		rows, err = t.behind(rows, q.Get("page_info"))
	}
	page := cut(rows, 0, 7)
	if len(rows) > len(page) {
		h.Add("Link", `<`+t.url+`/orders?page_info=x>; rel="previous"`)
		h.Add("Link", `<`+t.url+`/orders?page_info=`+key64(page[len(page)-1])+`>; rel="next"`)
	}
	return map[string]any{"orders": page}, err
}

// byLinkInBody answers like Calendly, with a link that is relative.
func byLinkInBody(t *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("since", "page_token"); err != nil {
		return nil, err
	}
	rows, err := q.since(rows, false)
	if err == nil {
		rows, err = t.behind(rows, q.Get("page_token"))
	}
	page := cut(rows, 0, 7)
	next := any(nil)
	if len(rows) > len(page) {
		q.Set("page_token", key64(page[len(page)-1]))
		next = "/v1/orders?" + q.Encode()
	}
	return map[string]any{"collection": page, "pagination": map[string]any{"next_page": next}}, err
}

// byLastID answers like Stripe: behind a record that must still be there.
func byLastID(_ *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("limit", "starting_after"); err != nil {
		return nil, err
	}
	size, err := q.number("limit", 10)
	if id := q.Get("starting_after"); id != "" {
		at := slices.IndexFunc(rows, func(o row) bool { return o.ID == id })
		if at < 0 {
			return nil, errExpired
		}
		rows = rows[at+1:]
	}
	page := cut(rows, 0, size)
	return map[string]any{"object": "list", "data": page, "has_more": len(rows) > len(page)}, err
}

// byMinID answers with pages that go up in ids, each with its highest first.
func byMinID(_ *table, q query, rows []row, _ http.Header) (any, error) {
	if err := q.only("min_id"); err != nil || !q.Has("min_id") {
		return nil, errors.New("min_id: want one")
	}
	rows = slices.DeleteFunc(rows, func(o row) bool { return o.ID <= q.Get("min_id") })
	page := slices.Clone(cut(rows, 0, 7))
	slices.Reverse(page)
	return page, nil
}

// byConnection answers a GraphQL query.
func byConnection(t *table, q query, rows []row, _ http.Header) (any, error) {
	vars, _ := q.body["variables"].(map[string]any)
	if !strings.HasPrefix(fmt.Sprint(q.body["query"]), "query(") || len(q.Values) > 0 {
		return nil, errors.New("no query")
	}
	first, ok := vars["first"].(float64)
	if !ok || first > 50 {
		return map[string]any{"errors": []any{map[string]any{"message": "first"}}, "data": nil}, nil
	}
	if since, ok := vars["since"].(string); ok {
		q.Values = url.Values{"since": {since}}
	}
	rows, err := q.since(rows, false)
	after, _ := vars["after"].(string)
	if err == nil {
		rows, err = t.behind(rows, after)
	}
	page := cut(rows, 0, int(first))
	end := any(nil)
	if len(page) > 0 {
		end = key64(page[len(page)-1])
	}
	return map[string]any{"data": map[string]any{"orders": map[string]any{
		"nodes": page, "pageInfo": map[string]any{"hasNextPage": len(rows) > len(page), "endCursor": end},
	}}}, err
}

// searchMost is how many records a search shows at most.
const searchMost = 20

// bySearch answers like HubSpot: the query is a body, times are milliseconds in
// text, and what lies behind the first records of all is refused.
func bySearch(_ *table, q query, rows []row, _ http.Header) (any, error) {
	var ask struct {
		Groups []struct {
			Filters []struct{ Operator, Value string }
		} `json:"filterGroups"`
		Limit int
		After int
	}
	data, err := json.Marshal(q.body)
	if err == nil {
		err = json.Unmarshal(data, &ask)
	}
	if err != nil || len(ask.Groups) != 1 || len(ask.Groups[0].Filters) != 2 || ask.Limit < 1 {
		return nil, errors.New("no search")
	}
	for _, f := range ask.Groups[0].Filters {
		ms, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil {
			return nil, err
		}
		at := time.UnixMilli(ms)
		rows = slices.DeleteFunc(rows, func(o row) bool {
			return f.Operator == "GTE" && o.Updated.Before(at) || f.Operator == "LTE" && o.Updated.After(at)
		})
	}
	from := ask.After
	if from+ask.Limit > searchMost {
		return nil, errors.New("over the limit of results")
	}
	body := map[string]any{"total": len(rows), "results": cut(rows, from, ask.Limit)}
	if from+ask.Limit < len(rows) {
		body["paging"] = map[string]any{"next": map[string]any{"after": strconv.Itoa(from + ask.Limit)}}
	}
	return body, nil
}

// byState answers with the records of one state, which must be said.
func byState(t *table, q query, rows []row, h http.Header) (any, error) {
	state := q.Get("state")
	if state != "open" && state != "closed" {
		return nil, errors.New("state: want one")
	}
	rows = slices.DeleteFunc(rows, func(o row) bool { return o.State != state })
	q.Del("state")
	return byCursor(t, q, rows, h)
}
