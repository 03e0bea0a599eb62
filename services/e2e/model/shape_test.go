package model_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shape is how the provider's API lists, and what the pipeline file says of it.
type shape struct {
	name string
	// reconcile are keys of that section, but for those that all shapes share.
	reconcile string
	// version and granule are what the records' versions are, and how exactly
	// their times are written.
	version string
	granule time.Duration
	// overlap is what the window is asked to overlap the last one by.
	overlap time.Duration
	// endsEarly says that a list is read up to the first record that is too old.
	endsEarly bool
	// list writes the answer to a request for a page of records, which are sorted by
	// change.
	list func(w http.ResponseWriter, r *http.Request, all []record)
	// unfiltered says that the list can't be asked for a time alone.
	unfiltered bool

	// events are keys of that section, where the provider's list of events is
	// reconciled in place of its records, and listEvents answers requests for it.
	events     string
	listEvents func(w http.ResponseWriter, r *http.Request, all []happened)
	// unsigned says that a webhook's id is not among what its signature covers.
	unsigned bool
	// redelivers says that the provider is asked first to send a webhook again.
	redelivers bool
}

var shapes = []shape{
	{
		name:      "cursor",
		reconcile: "list: '/{account}/orders', since: since, order: ascending, items: orders, next: {cursor: meta.next, param: cursor}",
		version:   "record.updated_at", granule: time.Microsecond, overlap: 5 * time.Minute, list: byCursor,
	},
	{
		name: "last id",
		reconcile: "list: '/{account}/orders', since: {param: since, format: unix, exclusive: true}, items: data, " +
			"next: {after: starting_after, more: has_more}, max_pages: 2",
		version: "record.version", granule: time.Second, overlap: time.Second, list: byLastID,
	},
	{
		name: "descending",
		reconcile: "list: '/{account}/orders', since: since, order: descending, items: orders, next: {offset: offset}, " +
			"limit: {param: limit, size: 4}",
		version: "record.updated_at", granule: time.Millisecond, overlap: 2 * time.Minute, endsEarly: true, list: byOffset(true),
	},
	{
		name:      "everything",
		reconcile: "list: '/{account}/orders', items: orders, next: {offset: offset}, limit: {param: limit, size: 5}",
		version:   "record.version", granule: time.Second, overlap: time.Second, list: byOffset(false), unfiltered: true,
	},
	{
		name: "link",
		reconcile: "list: '/{account}/orders', since: {param: since, format: unix_ms}, order: ascending, items: orders, " +
			"next: {link: header, stable: true}, against: [ledger, 'destination:database']",
		version: "record.version", granule: time.Millisecond, overlap: 3 * time.Minute, list: byLink,
	},
	{
		name: "connection",
		reconcile: "list: '/{account}/graphql', graphql: 'query($since: DateTime, $after: String) {orders {nodes {id} pageInfo {hasNextPage endCursor}}}', " +
			"since: since, order: ascending, next: {connection: data.orders}, max_pages: 1",
		version: "record.updated_at", granule: time.Second, overlap: 10 * time.Minute, list: byConnection,
	},
	{
		name: "sliced",
		reconcile: "list: '/{account}/orders', since: {param: since, format: unix_ms}, until: {param: until, format: unix_ms}, " +
			"items: orders, start: 20h, slice: 6h, next: {cursor: meta.next, param: cursor}",
		version: "record.updated_at", granule: time.Millisecond, overlap: 4 * time.Minute, list: byCursor,
	},
	{
		name: "events",
		events: "list: '/{account}/events', items: data, since: {param: since, format: unix}, order: descending, " +
			"next: {after: starting_after, more: has_more}, id: record.id, type: record.kind, time: record.at",
		version: "record.version", granule: time.Second, overlap: time.Minute, endsEarly: true, listEvents: newestFirst,
	},
	{
		name: "deliveries",
		events: "list: '/{account}/events', order: descending, next: {link: header, stable: true}, id: record.id, type: record.kind, " +
			"time: record.at, get: './{record.id}', body: request.payload, redeliver: {path: './{record.id}/attempts', wait: 1s}, prefer: redelivery",
		version: "record.updated_at", granule: time.Millisecond, overlap: 3 * time.Minute, endsEarly: true, unfiltered: true,
		listEvents: deliveries, unsigned: true, redelivers: true,
	},
	{
		name: "events forwards",
		events: "list: '/{account}/events', items: events, since: since, order: ascending, next: {cursor: next, param: cursor}, max_pages: 1, " +
			"id: record.id, type: record.kind, time: record.at, redeliver: {path: './{record.id}/attempts', wait: 1s}, prefer: redelivery",
		version: "record.version", granule: time.Microsecond, overlap: 5 * time.Minute, listEvents: oldestFirst, redelivers: true,
	},
}

// pageSize is how many records the API gives where it isn't asked for a number.
const pageSize = 3

// place is where a page begins: behind a record.
func place(r record) string { return strconv.FormatInt(r.Updated.UnixNano(), 10) + "/" + r.ID }

// behind are the records that come after a place.
func behind(all []record, at string) []record {
	if at == "" {
		return all
	}
	ns, id, _ := strings.Cut(at, "/")
	n, _ := strconv.ParseInt(ns, 10, 64)
	last := record{ID: id, Updated: time.Unix(0, n)}
	return slices.DeleteFunc(all, func(r record) bool { return byChange(r, last) <= 0 })
}

// window leaves those out that changed outside of the times that were asked for.
func window(all []record, since, until string, parse func(string) time.Time) []record {
	from, to := parse(since), parse(until)
	return slices.DeleteFunc(all, func(r record) bool {
		return r.Updated.Before(from) || !to.IsZero() && r.Updated.After(to)
	})
}

func rfc3339(text string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, text)
	return t
}

func unixMillis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func eitherTime(text string) time.Time {
	if t := unixMillis(text); !t.IsZero() {
		return t
	}
	return rfc3339(text)
}

func byCursor(w http.ResponseWriter, r *http.Request, all []record) {
	rest := behind(window(all, r.FormValue("since"), r.FormValue("until"), eitherTime), r.FormValue("cursor"))
	var next *string
	if len(rest) > pageSize {
		rest = rest[:pageSize]
		at := place(rest[pageSize-1])
		next = &at
	}
	answer(w, map[string]any{"orders": list(rest), "meta": map[string]any{"next": next}})
}

// byLastID lists by id, so that records keep their places, and leaves out those
// that changed in the very second that it is asked for.
func byLastID(w http.ResponseWriter, r *http.Request, all []record) {
	slices.SortFunc(all, byID)
	seconds, _ := strconv.ParseInt(r.FormValue("since"), 10, 64)
	all = slices.DeleteFunc(all, func(o record) bool {
		return seconds > 0 && !o.Updated.After(time.Unix(seconds, 0)) || o.ID <= r.FormValue("starting_after")
	})
	page := all[:min(pageSize, len(all))]
	answer(w, map[string]any{"data": list(page), "has_more": len(all) > len(page)})
}

func byOffset(newestFirst bool) func(http.ResponseWriter, *http.Request, []record) {
	return func(w http.ResponseWriter, r *http.Request, all []record) {
		if newestFirst {
			all = window(all, r.FormValue("since"), "", rfc3339)
			slices.Reverse(all)
		} else {
			slices.SortFunc(all, byID)
		}
		at, _ := strconv.Atoi(r.FormValue("offset"))
		size, _ := strconv.Atoi(r.FormValue("limit"))
		at = min(at, len(all))
		answer(w, map[string]any{"orders": list(all[at:min(at+cmp.Or(size, pageSize), len(all))])})
	}
}

func byLink(w http.ResponseWriter, r *http.Request, all []record) {
	rest := behind(window(all, r.FormValue("since"), "", unixMillis), r.FormValue("from"))
	if len(rest) > pageSize {
		rest = rest[:pageSize]
		next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"since": {r.FormValue("since")}, "from": {place(rest[pageSize-1])}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	answer(w, map[string]any{"orders": list(rest)})
}

func byConnection(w http.ResponseWriter, r *http.Request, all []record) {
	var ask struct{ Variables struct{ Since, After string } }
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rest := behind(window(all, ask.Variables.Since, "", rfc3339), ask.Variables.After)
	info := map[string]any{"hasNextPage": len(rest) > pageSize, "endCursor": nil}
	if len(rest) > pageSize {
		rest = rest[:pageSize]
		info["endCursor"] = place(rest[pageSize-1])
	}
	answer(w, map[string]any{"data": map[string]any{"orders": map[string]any{"nodes": list(rest), "pageInfo": info}}})
}

// list is never null.
func list(records []record) []record {
	if records == nil {
		return []record{}
	}
	return records
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what)
}
