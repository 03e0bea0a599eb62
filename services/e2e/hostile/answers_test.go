package hostile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// written answers 200 with a body of JSON.
func written(body string) answerer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

// raw answers byte for byte and ends the connection.
func raw(text string) answerer {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

// told answers with a status and headers alone, names before values.
func told(status int, header ...string) answerer {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// endless writes a piece after the other until the client has had enough.
func endless(header http.Header, pause time.Duration, piece string) answerer {
	return func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), header)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			if pause > 0 {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(pause):
				case <-r.Context().Done():
				}
			}
		}
	}
}

// hostileAnswers are what an API may say instead of a record, by name.
func hostileAnswers(canary string) map[string]answerer {
	long := strings.Repeat("a", 1<<20)
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	for range 256 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	zip := http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/json"}}
	return map[string]answerer{
		"bomb":     endless(nil, 0, strings.Repeat(`{"a":`, 10_000)),
		"zip-bomb": func(w http.ResponseWriter, _ *http.Request) { maps.Copy(w.Header(), zip); _, _ = w.Write(bomb.Bytes()) },
		"zip-garbage": func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), zip)
			_, _ = io.WriteString(w, "{}")
		},
		"drip":           endless(nil, 200*time.Millisecond, " "),
		"hang":           func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hang-up":        raw(""),
		"noise":          raw("\x00\x01\x02\xff not HTTP at all\r\n\r\n"),
		"half":           raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"id\":"),
		"length-short":   raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{\"id\":\"x\",\"version\":1}"),
		"length-two":     raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}"),
		"length-below":   raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
		"chunks-bad":     raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
		"status-none":    raw("HTTP/1.1 999 Beyond\r\nContent-Length: 2\r\n\r\n{}"),
		"status-text":    raw("HTTP/1.1 abc OK\r\n\r\n"),
		"informing":      raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 10_000)),
		"switching":      raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		"header-long":    told(200, "X-A", long, "X-B", long),
		"headers-many":   raw("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 200_000) + "\r\n{}"),
		"cookies":        told(200, "Set-Cookie", "a="+long),
		"redirect":       told(302, "Location", canary+"/x"),
		"redirect-meta":  told(307, "Location", "http://169.254.169.254/latest/meta-data"),
		"redirect-file":  told(301, "Location", "file:///etc/passwd"),
		"redirect-user":  told(308, "Location", strings.Replace(canary, "http://", "http://user:pass@", 1)),
		"redirect-self":  func(w http.ResponseWriter, r *http.Request) { told(302, "Location", r.RequestURI)(w, r) },
		"refresh":        told(200, "Refresh", "0; url="+canary, "Link", "<"+canary+">; rel=next"),
		"html":           written("<html><script>alert(1)</script></html>"),
		"empty":          written(""),
		"null":           written("null"),
		"array":          written("[]"),
		"text":           written(`"x"`),
		"deep":           written(strings.Repeat("[", 1_000_000)),
		"deep-value":     written(`{"id":"deep-value","version":1,"x":` + strings.Repeat("[", 9_990) + strings.Repeat("]", 9_990) + `}`),
		"twice":          written(`{"id":"twice","id":"other","version":1}`),
		"surrogate":      written(`{"id":"surrogate","version":1,"x":"\ud800"}`),
		"not-utf8":       written("{\"id\":\"not-utf8\",\"version\":1,\"x\":\"\xff\"}"),
		"mark":           written("\xef\xbb\xbf{\"id\":\"mark\",\"version\":1}"),
		"two-values":     written(`{"id":"two-values","version":1}{"id":"x"}`),
		"nan":            written(`{"id":"nan","version":NaN}`),
		"other-record":   written(`{"id":"the record of somebody else","version":1}`),
		"no-id":          written(`{"version":1}`),
		"id-object":      written(`{"id":{"a":1},"version":1}`),
		"no-version":     written(`{"id":"no-version"}`),
		"version-huge":   written(`{"id":"version-huge","version":1e999999}`),
		"version-long":   written(`{"id":"version-long","version":"` + strings.Repeat("9", 100_000) + `"}`),
		"version-object": written(`{"id":"version-object","version":{}}`),
		"large":          written(`{"id":"large","version":1,"x":"` + strings.Repeat("x", 5<<20) + `"}`),
		"no-content":     told(204),
		"not-modified":   told(304, "ETag", `"never seen"`),
		"partial":        told(206, "Content-Range", "bytes 0-1/100"),
		"throttled":      told(429, "Retry-After", "99999999999999999999"),
		"throttled-past": told(429, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"),
		"throttled-odd":  told(429, "Retry-After", "-1, \x7f", "X-RateLimit-Reset", "9223372036854775807", "X-RateLimit-Remaining", "-5"),
		"unauthorised":   told(401, "WWW-Authenticate", "Negotiate"),
		"proxy":          told(407, "Proxy-Authenticate", "Basic"),
		"fault":          told(500),
		"unavailable":    told(503, "Retry-After", "1"),
	}
}

// answerSources has a source for each answer, so that none waits for another.
func answerSources(names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, `
  a-%s:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    api: {base: "@API@/%s", token: env:API_TOKEN, allow_private: true, timeout: 2s}
    resources: {thing: {triggers: [thing.*], id: body.thing, get: "/things/{id}", version: record.version}}
`, name, name)
	}
	return b.String()
}

// An API that sends anything but a record keeps no other source waiting, makes no
// program fall or swell, and leads nobody astray. Each of its triggers ends as an
// event or a dead letter, at the latest once it has come to reason. (Promises 3, 7,
// 9 and 10.)
func TestHostileAPIAnswers(t *testing.T) {
	slow(t)
	names := slices.Sorted(maps.Keys(hostileAnswers("")))
	w := start(t, part{
		sources: answerSources(names), services: []string{"ingress", "enricher", "sink", "reconciler"}, env: map[string]string{"API_TOKEN": "the API's token"},
		answers: hostileAnswers,
	})
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	var ids []string
	attacked := w.neighbour.while(5*time.Second, func() {
		for _, name := range names {
			id := "thing-" + name
			ids = append(ids, id)
			a := attack{send: w.signed("a-"+name, id, fmt.Sprintf(`{"kind":"thing.made","thing":%q}`, name)).String(), want: "200"}
			if err := a.try(w.ingress); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.eventually("each answer was asked for", func(context.Context) error {
			for _, name := range names {
				if w.api.requests(name) == 0 {
					return errors.New(name + " was not")
				}
			}
			return nil
		})
	})
	w.compare(quiet, attacked)
	w.eventually("the neighbour's events are enriched meanwhile", func(ctx context.Context) error {
		if got := w.count(ctx, topology.StreamEnriched, "tercel.enriched.shop.>"); got != uint64(w.neighbour.sent) {
			return fmt.Errorf("%d of %d", got, w.neighbour.sent)
		}
		return nil
	})
	w.api.healed.Store(true)
	w.ended(ids)
	w.api.hangUp() // idle connections are kept for the next requests
	if n := w.api.astray.Load(); n > 0 {
		t.Errorf("%d requests went where an answer had pointed", n)
	}
	w.recovered(base)
	if err := w.alive(); err != nil {
		t.Error(err)
	}
	w.nowhere("the API's token")
	w.nowhere("the record of somebody else")
}

// count is how many messages a stream has of a subject.
func (w *world) count(ctx context.Context, stream, subject string) (n uint64) {
	w.t.Helper()
	for _, err := range consume.Scan(ctx, w.js, consume.ScanOptions{Stream: stream, Subjects: []string{subject}, HeadersOnly: true}) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// ended waits until each of the deliveries is an event or a dead letter, and returns
// those that are dead.
func (w *world) ended(deliveries []string) (dead []string) {
	w.t.Helper()
	w.eventually("every trigger has ended", func(ctx context.Context) error {
		dead = nil
		left := map[string]bool{}
		for _, id := range deliveries {
			left[id] = true
		}
		for _, stream := range []string{topology.StreamEnriched, topology.StreamDLQ} {
			for m, err := range consume.Scan(ctx, w.js, consume.ScanOptions{Stream: stream, HeadersOnly: true}) {
				if err != nil {
					return err
				}
				e, err := event.FromHeader(m.Header)
				if err != nil {
					return err
				}
				if left[e.DeliveryID] && stream == topology.StreamDLQ {
					dead = append(dead, e.DeliveryID)
				}
				delete(left, e.DeliveryID)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d have not: %.300q", len(left), slices.Sorted(maps.Keys(left)))
		}
		return nil
	})
	w.t.Logf("%d triggers, of which dead: %q", len(deliveries), dead)
	return dead
}

// hostileLists are what an API may list, by name.
func hostileLists(canary string) map[string]answerer {
	item := `{"id":"%s-%d","version":1,"updated_at":"2026-01-01T00:00:00Z"}`
	var made atomic.Int64
	return map[string]answerer{
		"loop":      written(`{"items":[` + fmt.Sprintf(item, "loop", 1) + `],"next":"the same"}`),
		"loop-none": written(`{"items":[],"next":"the same"}`),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			n := made.Add(1)
			written(fmt.Sprintf(`{"items":[`+item+`],"next":"%d"}`, "endless", n, n))(w, r)
		},
		"cursor-long":   written(`{"items":[],"next":"` + strings.Repeat("a", 3<<20) + `"}`),
		"cursor-url":    written(`{"items":[],"next":"` + canary + `/?a=b&c=d#e"}`),
		"cursor-object": written(`{"items":[],"next":{"a":1}}`),
		"no-list":       written(`{"items":"none"}`),
		"no-items":      written(`{}`),
		"html":          written(`<html>`),
		"not-records":   written(`{"items":[1,"a",null,[],{"id":null},{"id":{}}],"next":""}`),
		"no-times":      written(`{"items":[{"id":"a","version":1},{"id":"b","version":1,"updated_at":"yesterday"}],"next":""}`),
		"future":        written(`{"items":[{"id":"a","version":1,"updated_at":"9999-12-31T23:59:59Z"}],"next":""}`),
		"deep":          written(`{"items":[` + strings.Repeat("[", 100_000)),
		"bomb":          endless(nil, 0, strings.Repeat(" ", 1<<16)),
		"hang":          func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"redirect":      told(302, "Location", canary),
		"throttled":     told(429, "Retry-After", "99999999999999999999"),
	}
}

// readable are lists that can be read to their end.
var readable = map[string]bool{"honest": true}

// A list that lies ends its run, which says so in its report; it doesn't keep a
// reconciler busy for ever, and the other lists are read meanwhile. (Promises 6 and
// 10.)
func TestHostileLists(t *testing.T) {
	slow(t)
	names := slices.Sorted(maps.Keys(hostileLists("")))
	var sources strings.Builder
	for _, name := range append(slices.Clone(names), "honest") {
		fmt.Fprintf(&sources, `
  l-%s:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    api: {base: "@API@/%s", allow_private: true, timeout: 2s}
    resources:
      thing:
        triggers: [thing.*]
        id: body.thing
        get: "/things/{id}"
        version: record.version
        reconcile: {every: 2s, list: /list, since: updated_after, order: ascending, time: record.updated_at, items: items, next: {cursor: next, param: cursor}, limit: {param: limit, size: 100}, settle: 1s, max_pages: 20}
`, name, name)
	}
	w := start(t, part{sources: sources.String(), services: []string{"ingress", "enricher", "sink", "reconciler"}, answers: hostileLists})
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	attacked := w.neighbour.while(5*time.Second, func() {
		for _, name := range append(slices.Clone(names), "honest") {
			w.eventually("a report on "+name, func(ctx context.Context) error {
				all, err := report.List(ctx, w.js, report.Query{Source: "l-" + name, Resource: "thing"})
				if err != nil {
					return err
				}
				if len(all) == 0 && name != "throttled" || w.api.requests(name) == 0 {
					return fmt.Errorf("%d reports, %d requests", len(all), w.api.requests(name))
				}
				if len(all) > 0 && all[len(all)-1].Complete != readable[name] {
					return fmt.Errorf("complete %t, want %t: %s", !readable[name], readable[name], all[len(all)-1].Error)
				}
				if len(all) > 0 {
					w.t.Logf("%s: complete %t, %d pages, %.200s", name, all[0].Complete, all[0].Pages, all[0].Error)
				}
				return nil
			})
		}
	})
	w.compare(quiet, attacked)
	w.recovered(base)
	if n := w.api.astray.Load(); n > 0 {
		t.Errorf("%d requests went where an answer had pointed", n)
	}
	if err := w.alive(); err != nil {
		t.Error(err)
	}
}
