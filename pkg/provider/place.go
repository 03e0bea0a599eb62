package provider

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// MaxOverlap is how many records at the end of a page are listed again with the
// next where positions are numbers of records.
const MaxOverlap = 8

// minNumbered is the least size of pages with numbers: from it on there is
// always a smaller size of which a page overlaps the last one.
const minNumbered = 20

// minOverlapped is the least number of records of which a page of fewer can have
// some and one more. No API gives fewer than that unless the list has no more.
const minOverlapped = 3

// epoch stands for the beginning of time where a request can't leave it out.
var epoch = time.Unix(0, 0)

// Place is a page of a list.
type Place struct {
	// From and To are the ends of the time to list; a zero From is the beginning.
	From, To time.Time
	// State is the index of the state to list, where there are several.
	State int
	// Position is what the page before it said; "" is the first.
	Position string
	// Full is the most records that a page of the list had so far: APIs give
	// less than they are asked for.
	Full int
}

// PageRequest is the request for one page.
type PageRequest struct {
	// Method, Path, Query and Body are what to send.
	Method string
	Path   string
	Query  url.Values
	Body   []byte
	// GraphQL says that Body is a query.
	GraphQL bool
	// Front is the number of records in front of the page, and Want how many it
	// has unless it is the last, where positions are numbers of records. Want is
	// 0 while that isn't known.
	Front, Want int

	number int // of the page, where it has one; the first is 0
}

// Request returns the request for a page of the list at path, which is List with
// everything filled in.
func (r *Reconcile) Request(path string, at Place) (PageRequest, error) {
	if r.Next.shape == ByLink && strings.HasPrefix(at.Position, "/") {
		return PageRequest{Method: http.MethodGet, Path: at.Position}, nil
	}
	a := PageRequest{Method: http.MethodGet, Path: path, Query: url.Values{}, GraphQL: r.GraphQL != ""}
	params, err := r.params(&a, at)
	if err != nil {
		return PageRequest{}, err
	}
	for name, value := range r.Query {
		a.Query.Set(name, value)
	}
	if !r.posts() {
		for _, p := range params {
			a.Query.Set(p.name, p.text)
		}
		return a, nil
	}
	a.Method = http.MethodPost
	a.Body, err = r.body(params)
	return a, err
}

// param is what a request says beside what is fixed.
type param struct {
	name, text string
	number     bool
}

func (r *Reconcile) params(a *PageRequest, at Place) ([]param, error) {
	var params []param
	add := func(name, text string, number bool) {
		if name != "" {
			params = append(params, param{name, text, number})
		}
	}
	size := r.Limit.Size
	position, err := r.position(a, at, &size)
	if err != nil {
		return nil, err
	}
	if position != "" {
		add(r.Next.param(), position, r.Next.Counted())
	}
	add(r.Limit.Param, strconv.Itoa(size), true)
	if r.Since.Text != "" {
		from := at.From
		if from.IsZero() {
			from = epoch
		}
		add(r.Since.Param, strings.NewReplacer("{since}", r.Since.since(from), "{until}", r.Since.until(at.To)).Replace(r.Since.Text), false)
	} else if !at.From.IsZero() {
		add(r.Since.Param, r.Since.since(at.From), r.Since.Format.numeric())
	}
	add(r.Until.Param, r.Until.until(at.To), r.Until.Format.numeric())
	if r.States.Param != "" {
		add(r.States.Param, r.States.Values[at.State%len(r.States.Values)], false)
	}
	return params, nil
}

// position returns what the request says of its place, and changes the size
// where that belongs to it. A position of another shape, left by an older
// configuration, begins the list again.
func (r *Reconcile) position(a *PageRequest, at Place, size *int) (string, error) {
	switch r.Next.shape {
	case ByOffset:
		a.Front, a.Want = recordsIn(at.Position), at.Full
		if a.Front == 0 {
			return "", nil
		}
		return strconv.Itoa(a.Front), nil
	case ByPage:
		read := recordsIn(at.Position)
		// Whether the list is at its end or the API gives no more than this, the
		// next page must begin in front of it: asked for as many as at first, it
		// would be the first page again, and nothing new on it no end (promise 6).
		if at.Full >= minOverlapped {
			*size = min(*size, at.Full)
		}
		fits, number, ok := overlapping(read, *size)
		if !ok {
			return "", fmt.Errorf("list: pages of at most %d records don't overlap at the %dth", *size, read)
		}
		*size, a.number = fits, number
		a.Front, a.Want = number*fits, fits
		return strconv.Itoa(r.Next.From + a.number), nil
	case ByLastID:
		if at.Position == "" {
			return r.Next.Start, nil
		}
	case ByLink: // not a link
		return "", nil
	}
	return at.Position, nil
}

// recordsIn is a position that is a number of records.
func recordsIn(position string) int {
	n, err := strconv.Atoi(position)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// overlapping finds the page that begins in front of the end of the read
// records and reaches furthest behind it. A page of a size can only begin at a
// multiple of it, so other sizes up to the largest are tried, with less overlap
// if there is too little gained.
func overlapping(read, largest int) (size, number int, ok bool) {
	if read == 0 {
		return largest, 0, true
	}
	end := 0
	for overlap := min(Overlap(largest), read); overlap >= 1; overlap /= 2 {
		for s := largest; s > 0; s-- {
			n := (read - overlap) / s
			if e := s * (n + 1); e > end {
				size, number, end = s, n, e
			}
		}
		if end-read >= max(1, largest/4) {
			break
		}
	}
	return size, number, end > read
}

// Overlap is how many records of a page of n are listed again with the next.
// Pages of one record have no room for it.
func Overlap(n int) int { return min(MaxOverlap, n/2) }

func (f TimeFormat) numeric() bool { return f == UnixSeconds || f == UnixMillis }

// posts reports whether a request has a body.
func (r *Reconcile) posts() bool { return r.Body != "" || r.GraphQL != "" }

// member is where a parameter stands in the body.
func (r *Reconcile) member(name string) []string {
	if r.GraphQL != "" {
		return []string{"variables", name}
	}
	return strings.Split(name, ".")
}

// body writes the body with the parameters in their places.
func (r *Reconcile) body(params []param) ([]byte, error) {
	var body any = map[string]any{"query": r.GraphQL}
	if r.Body != "" {
		body = nil
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			return nil, errors.New("list: body: no JSON")
		}
	}
	for _, p := range params {
		var ok bool
		if body, ok = put(body, r.member(p.name), p); !ok {
			return nil, fmt.Errorf("list: body: no place for %s", p.name)
		}
	}
	data, err := json.Marshal(body, json.Deterministic(true))
	if err != nil {
		return nil, errors.New("list: body: no JSON")
	}
	return data, nil
}

// placeable reports whether a body has a place for a parameter.
func placeable(body any, path []string) bool {
	_, ok := put(body, path, param{})
	return ok
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

// put returns v with a parameter at path: a number where the parameter is one
// and the place doesn't have a text. Objects are made as needed, elements not.
func put(v any, path []string, p param) (any, bool) {
	if len(path) == 0 {
		switch v.(type) {
		case map[string]any, []any:
			return nil, false
		case string:
			return p.text, true
		}
		if n, err := strconv.ParseInt(p.text, 10, 64); p.number && err == nil {
			return n, true
		}
		return p.text, true
	}
	switch v := v.(type) {
	case nil:
		return put(map[string]any{}, path, p)
	case map[string]any:
		member, ok := put(v[path[0]], path[1:], p)
		v[path[0]] = member
		return v, ok && path[0] != ""
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(v) {
			return nil, false
		}
		var ok bool
		v[i], ok = put(v[i], path[1:], p)
		return v, ok
	}
	return nil, false
}
