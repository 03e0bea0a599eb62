package hostile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// poisonSource is of a genuine sender, whose ids and records are anything.
const poisonSource = `
  poison:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: body.delivery, type: body.kind}
    request: {max_body: 2MiB}
    api: {base: "@API@/poison", allow_private: true, timeout: 10s}
    resources: {thing: {triggers: [thing.*], id: body.thing, get: "/things/{id}", version: record.version}}
`

// hostileIDs are what a sender may call a record, and an event.
var hostileIDs = map[string]string{
	"star": "*", "rest": ">", "both": "a.*.>", "dot": ".", "dots": "..", "three dots": "...", "empty parts": "a..b", "space": " ", "spaces around": " a ", "tab": "\t",
	"CRLF": "a\r\nNats-Rollup: all\r\n\r\nx", "NUL": "a\x00b", "the API of JetStream": "$JS.API.STREAM.DELETE.TERCEL_RAW", "an acknowledgement": "$JS.ACK.TERCEL_RAW.x.1.1.1.1.1",
	"a path up": "../../../../etc/passwd", "a path up, escaped": "..%2f..%2f..%2fetc%2fpasswd", "a path up, twice escaped": "%252e%252e%252f", "a path up, of Windows": `..\..\..\boot.ini`,
	"a path up, with NUL": "../../secret\x00.json", "an absolute path": "/etc/passwd", "a query": "x?admin=true&y=", "a fragment": "x#y", "a semicolon": "x;y=z", "another host": "//canary.example.com/x",
	"a URL": "http://169.254.169.254/latest/meta-data", "a user": "@evil.example.com", "a colon": "x:80", "a template": "{id}{record.id}{{.}}${x}", "SQL": "'; DROP TABLE events; --",
	"a shell": "$(reboot);`reboot`|reboot", "a lookup": "${jndi:ldap://evil.example.com/a}", "a format": "%s%n%x%999999999d", "markup": "<script>alert(1)</script>", "a formula": "=cmd|'/c calc'!A0",
	"unicode": "заказ🧾", "combining": "e\u0301", "right to left": "\u202egpj.exe", "no width": "a\u200b\ufeffb", "a line separator": "a\u2028b", "a noncharacter": "\uffff", "a private one": "\U0010ffff",
	"512 wide letters": strings.Repeat("ж", 512), "1,024 bytes": strings.Repeat("x", 1024), "1,024 slashes": strings.Repeat("/", 1024), "hundreds of parts": strings.Repeat("a.", 500),
	"a number": "12345678901234567890123456789", "a hash": "sha256:abc", "an id of ours": "reconcile:thing:1:1", "a tilde": "x~y+2", "a part": "x#1", "escaped": "%2A%~00",
}

// hostileRecords are what the API says of a record, beside id and version.
var hostileRecords = map[string]string{
	"an escaped NUL":         `,"x":"a\u0000b"`,
	"an escaped NUL in name": `,"a\u0000b":1`,
	"half a surrogate":       `,"x":"\ud800"`,
	"a number for no column": `,"x":1e999999`,
	"a number of many 9s":    `,"x":` + strings.Repeat("9", 200_000),
	"deep":                   `,"x":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
	"deep objects":           `,"x":` + strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000),
	"wide":                   `,"x":[` + strings.Repeat(`0,`, 200_000) + `0]`,
	"a long text":            `,"x":"` + strings.Repeat("a", 1<<20) + `"`,
	"a long name":            `,"` + strings.Repeat("a", 1<<20) + `":1`,
	"a noncharacter":         `,"x":"\uffff\ufdd0"`,
	"markup":                 `,"x":"</script><script>alert(1)</script>"`,
	"line breaks":            `,"x":"a\nb\r\u2028c"`,
	"columns of ours":        `,"deleted":true,"observed_at":"x","source":"shop","record_id":"1"`,
	"a prototype":            `,"__proto__":{"x":1}`,
	"a version of its own":   `,"Version":9,"VERSION":"x"`,
}

// What is genuine and poisonous all the same ends as an event in every destination,
// or as a dead letter; it is neither tried for ever nor does it hold up others. No id
// leads out of the API's path, of the folder of files, or of the subjects. (Promises
// 3, 5 and 8.)
func TestPoisonHasOneOutcome(t *testing.T) {
	slow(t)
	db := pgtest.Start(t)
	w := start(t, part{
		sources: poisonSource, services: []string{"ingress", "enricher", "sink", "reconciler"},
		destinations: fmt.Sprintf("  warehouse: {postgres: {dsn: env:DATABASE_URL}}\n  local: {sqlite: {path: %q}}\n", filepath.Join(t.TempDir(), "local.db")),
		env:          map[string]string{"DATABASE_URL": db.URL(pgtest.Superuser, pgtest.Database, db.Addr())},
	})
	for name, more := range hostileRecords {
		w.api.records[name] = fmt.Sprintf(`{"id":%q,"version":1%s}`, name, more)
	}
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	var deliveries []string
	attacked := w.neighbour.while(0, func() { deliveries = w.poison() })
	w.ended(deliveries)
	w.compare(quiet, attacked)
	w.settled("archive", "warehouse", "local")
	w.api.hangUp() // idle connections are kept for the next requests
	w.recovered(base)
	if err := w.alive(); err != nil {
		t.Error(err)
	}
	w.inside()
}

// poison sends every id as a record's and as a delivery's, and a trigger for every
// record, and returns the deliveries.
func (w *world) poison() (deliveries []string) {
	send := func(delivery, thing string) {
		body, err := json.Marshal(map[string]string{"kind": "thing.made", "delivery": delivery, "thing": thing})
		if err != nil {
			w.t.Error(err)
			return
		}
		if err := (attack{send: w.signed("poison", "x", string(body)).String(), want: "200"}).try(w.ingress); err != nil {
			w.t.Errorf("%.100q of %.100q: %v", thing, delivery, err)
			return
		}
		deliveries = append(deliveries, delivery)
	}
	for name, id := range hostileIDs {
		send("record, "+name, id)
		send(id, name)
	}
	for name := range hostileRecords {
		send("holds "+name, name)
	}
	return deliveries
}

// settled waits until nothing is left to do for destinations.
func (w *world) settled(destinations ...string) {
	w.t.Helper()
	for _, name := range destinations {
		w.eventually(name+" has nothing left to do", func(ctx context.Context) error {
			c, err := w.js.Consumer(ctx, topology.StreamEnriched, topology.DeliverDurable(name))
			if err != nil {
				return err
			}
			info := c.CachedInfo()
			if info.NumPending > 0 || info.NumAckPending > 0 {
				return fmt.Errorf("%d pending, %d in work", info.NumPending, info.NumAckPending)
			}
			return nil
		})
	}
}

// inside checks that ids led nowhere: requests to the API were for one record each,
// and files are in their folder, and named by us.
func (w *world) inside() {
	w.t.Helper()
	for _, line := range w.api.seen() {
		id, ok := strings.CutPrefix(line, "/poison/things/")
		if !ok {
			if !strings.HasPrefix(line, "/honest/things/shop-") {
				w.t.Errorf("the API was asked for %.200q", line)
			}
			continue
		}
		if plain, err := url.PathUnescape(id); err != nil || strings.ContainsAny(id, "/?#") || plain == "." || plain == ".." {
			w.t.Errorf("the API was asked for %.200q, %v", line, err)
		}
	}
	err := filepath.WalkDir(filepath.Dir(w.archive), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if rel, err := filepath.Rel(w.archive, path); err != nil || strings.HasPrefix(rel, "..") {
			w.t.Errorf("a file outside of its folder: %s", path)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}
