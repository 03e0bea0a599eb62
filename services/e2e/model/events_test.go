package model_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// happened is an event as the provider lists it: what it has sent a webhook of,
// or tried to.
type happened struct {
	ID    string    `json:"id,omitempty"`
	Kind  string    `json:"kind"`
	Order string    `json:"order"`
	At    time.Time `json:"at"`

	seq   int
	again fate // what becomes of the webhook that is asked for
}

// body is that of its webhook. Where the signature doesn't cover the event's id,
// that stands in a header alone.
func (h happened) body(unsigned bool) []byte {
	if unsigned {
		h.ID = ""
	}
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // a mistake in a test
	}
	return text
}

// tell writes an event down.
func (b *book) tell(h happened) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, h)
}

// told are the events, the oldest first.
func (b *book) told() []happened {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(slices.Values(b.events), func(x, y happened) int {
		return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.seq, y.seq))
	})
}

// eventsAPI lists a book's events, gives one of them, and sends webhooks again.
func (w *world) eventsAPI(rw http.ResponseWriter, r *http.Request, b *book, path []string) {
	if len(path) == 1 {
		all := b.told()
		if w.hooked() {
			all = b.told()
		}
		rw.Header().Set("Date", w.clock.now().Format(http.TimeFormat))
		w.listEvents(rw, r, all)
		return
	}
	rw.Header().Set("Date", w.clock.now().Format(http.TimeFormat))
	all := b.told()
	i := slices.IndexFunc(all, func(h happened) bool { return h.ID == path[1] })
	switch {
	case i < 0:
		http.NotFound(rw, r)
	case r.Method == http.MethodGet:
		answer(rw, map[string]any{"id": all[i].ID, "request": map[string]any{"payload": json.RawMessage(all[i].body(true))}})
	default:
		w.sendAgain(rw, r, b, all[i])
	}
}

// sendAgain sends an event's webhook again, or says only that it will.
func (w *world) sendAgain(rw http.ResponseWriter, r *http.Request, b *book, h happened) {
	w.reached.add(askedAgain, 1)
	switch h.again {
	case held:
		http.Error(rw, "it is too old", http.StatusUnprocessableEntity)
		return
	case lost:
	default:
		if w.offer(r.Context(), b.account, h) == http.StatusOK {
			w.reached.add(sentAgain, 1)
		}
	}
	rw.WriteHeader(http.StatusAccepted)
}

// eventsPage is how many events a list gives at once.
const eventsPage = 3

// newestFirst lists as Stripe does, by the last event's id.
func newestFirst(w http.ResponseWriter, r *http.Request, all []happened) {
	seconds, _ := strconv.ParseInt(r.FormValue("since"), 10, 64)
	all = slices.DeleteFunc(all, func(h happened) bool { return h.At.Before(time.Unix(seconds, 0)) && seconds > 0 })
	slices.Reverse(all)
	if last := r.FormValue("starting_after"); last != "" {
		all = all[1+slices.IndexFunc(all, func(h happened) bool { return h.ID == last }):]
	}
	page := all[:min(eventsPage, len(all))]
	answer(w, map[string]any{"data": slices.Concat([]happened{}, page), "has_more": len(all) > len(page)})
}

// deliveries lists as GitHub does, with links, and without the bodies.
func deliveries(w http.ResponseWriter, r *http.Request, all []happened) {
	slices.Reverse(all)
	if before := r.FormValue("before"); before != "" {
		n, _ := strconv.Atoi(before)
		all = all[1+slices.IndexFunc(all, func(h happened) bool { return h.seq == n }):]
	}
	page := all[:min(eventsPage, len(all))]
	if len(all) > len(page) {
		next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"before": {strconv.Itoa(page[len(page)-1].seq)}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	shown := []map[string]any{}
	for _, h := range page {
		shown = append(shown, map[string]any{"id": h.ID, "kind": h.Kind, "at": h.At})
	}
	answer(w, shown)
}

// oldestFirst lists with a cursor.
func oldestFirst(w http.ResponseWriter, r *http.Request, all []happened) {
	since, last := rfc3339(r.FormValue("since")), r.FormValue("cursor")
	all = slices.DeleteFunc(all, func(h happened) bool { return h.At.Before(since) })
	if last != "" {
		all = all[1+slices.IndexFunc(all, func(h happened) bool { return h.ID == last }):]
	}
	var next *string
	page := all[:min(eventsPage, len(all))]
	if len(all) > len(page) {
		next = &page[len(page)-1].ID
	}
	answer(w, map[string]any{"events": slices.Concat([]happened{}, page), "next": next})
}
