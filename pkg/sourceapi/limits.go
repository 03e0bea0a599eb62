package sourceapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/provider"
)

// limits reads from answers how long an API wants to be left alone. What its
// headers say of time is compared with the answer's own Date, where it has one:
// its clock may be another than ours.
type limits struct {
	own []provider.Limit // what is configured, beside what is customary
}

// wait reads it from an answer that is a refusal.
func (l limits) wait(status int, h http.Header, now time.Time) (time.Duration, bool) {
	now = dated(h, now)
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusForbidden:
		if wait, ok := egress.WaitAsked(status, h, now); ok {
			return wait, true
		}
		if wait, ok := structured(h); ok {
			return wait, true
		}
	}
	if status >= 500 && status != http.StatusServiceUnavailable {
		return 0, false
	}
	return l.spent(h, now) // some refuse with a 400
}

// used reads it from an answer that is none: that was the last for now.
func (l limits) used(h http.Header, now time.Time) (time.Duration, bool) {
	now = dated(h, now)
	if wait, ok := egress.UsedUp(h, now, false); ok {
		return wait, true
	}
	if wait, ok := structured(h); ok {
		return wait, true
	}
	return l.spent(h, now)
}

// spent reads the configured headers.
func (l limits) spent(h http.Header, now time.Time) (longest time.Duration, some bool) {
	for _, limit := range l.own {
		if limit.Remaining != "" && h.Get(limit.Remaining) != "0" || limit.Used != "" && !full(h.Get(limit.Used)) {
			continue
		}
		wait, ok := egress.Reset(h.Get(limit.Reset), now)
		if limit.Reset == "" || !ok {
			wait = limit.Wait
		}
		longest, some = max(longest, wait), true
	}
	return longest, some
}

// full reads a header such as 40/40.
func full(value string) bool {
	used, allowed, ok := strings.Cut(strings.TrimSpace(value), "/")
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(used, 10, 32)
	most, mostErr := strconv.ParseUint(allowed, 10, 32)
	return err == nil && mostErr == nil && most > 0 && n >= most
}

// structured reads the RateLimit header of draft-ietf-httpapi-ratelimit-headers
// in its present form, "default";r=0;t=30, and an older one, limit=100,
// remaining=0, reset=30. Without a time the window of RateLimit-Policy counts.
func structured(h http.Header) (longest time.Duration, some bool) {
	for _, item := range parameters(h.Get("Ratelimit")) {
		if item["r"] != "0" && item["remaining"] != "0" {
			continue
		}
		value := item["t"] + item["reset"]
		if value == "" {
			for _, policy := range parameters(h.Get("Ratelimit-Policy")) {
				if policy[""] == item[""] {
					value = policy["w"]
				}
			}
		}
		if wait, ok := egress.Reset(value, time.Time{}); ok {
			longest, some = max(longest, wait), true
		}
	}
	return longest, some
}

// parameters reads the items of a list, each as its parameters with the item's
// own name under "". A list of nothing but parameters is one item.
func parameters(value string) []map[string]string {
	if len(value) > 1024 {
		return nil
	}
	var items []map[string]string
	flat := !strings.Contains(value, ";")
	for i, text := range strings.Split(value, ",") {
		if i == 0 || !flat {
			items = append(items, map[string]string{})
		}
		item := items[len(items)-1]
		for part := range strings.SplitSeq(text, ";") {
			name, number, given := strings.Cut(strings.TrimSpace(part), "=")
			if !given {
				name, number = "", name
			}
			item[name] = number
		}
	}
	return items
}

// dated is an answer's own time, or now where it has none.
func dated(h http.Header, now time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return now
}
