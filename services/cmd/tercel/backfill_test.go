package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// gated is a shop whose lists can be held back after they were read.
type gated struct {
	*shop
	mu   sync.Mutex
	gate chan struct{} // nil while lists pass; closed to let go
	held chan struct{} // gets a value for each list that is held back
}

// startGated starts the shop; hold makes its lists wait from then on.
func startGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{shop: &shop{orders: map[string]string{}, broken: map[string]bool{}}, held: make(chan struct{}, 16)}
	g.srv = httptest.NewServer(g)
	t.Cleanup(g.srv.Close)
	return g
}

func (g *gated) hold() (release func()) {
	gate := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate = gate
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.gate = nil
		close(gate)
	})
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	gate := g.gate
	g.mu.Unlock()
	if gate == nil || r.URL.Path != "/orders" {
		g.shop.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	g.shop.ServeHTTP(answer, r)
	g.held <- struct{}{}
	select {
	case <-gate:
	case <-r.Context().Done():
	}
	_, _ = w.Write(answer.Body.Bytes())
}

// local is the default destination.
func (p *livePipeline) local() *sql.DB {
	p.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.data, "tercel.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = db.Close() })
	return db
}

// count is the answer to a query, or -1 while it can't be asked.
func count(db *sql.DB, query string) (n int) {
	if db.QueryRow(query).Scan(&n) != nil {
		return -1
	}
	return n
}

// scheduledOnce waits until the schedule has made its first run: the next is an
// hour away.
func (p *livePipeline) scheduledOnce() {
	p.t.Helper()
	until(p.t, "the schedule's first run", func() bool {
		return strings.Contains(ok(p.t, "reconcile", "report", "--api", p.ConsoleURL, "--format", "json"), `"run"`)
	})
}

// written is the last sequence of a stream, which any write moves.
func (p *livePipeline) written(stream string) uint64 {
	p.t.Helper()
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := js.Stream(p.t.Context(), stream)
	if err != nil {
		p.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// cursor is the schedule's cursor as it is stored.
func (p *livePipeline) cursor() string {
	p.t.Helper()
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		p.t.Fatal(err)
	}
	kv, err := js.KeyValue(p.t.Context(), topology.BucketCursors)
	if err != nil {
		p.t.Fatal(err)
	}
	e, err := kv.Get(p.t.Context(), "orders._.order")
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprint(e.Revision(), " ", string(e.Value()))
}

// A backfill says what it did, and the records are at the destination then; the
// next finds them there. Neither moves the schedule's cursor.
func TestBackfillRepairsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	p.scheduledOnce()
	for i := range 40 {
		s.put(fmt.Sprint("o", i), 1)
	}
	cursor, db := p.cursor(), p.local()

	raw := p.written(topology.StreamRaw)
	dry := ok(t, with("backfill", "start", "orders", "order", "--dry-run")...)
	if want := "complete: 40 listed, 0 matched, 40 missed, 0 stale, 0 repaired, 0 unreadable, in 1 pages and "; !strings.HasPrefix(dry, want) ||
		!strings.Contains(dry, "a dry run, which repairs nothing") {
		t.Errorf("dry run: %s, want %s…", dry, want)
	}
	if p.written(topology.StreamRaw) != raw {
		t.Error("a dry run has stored triggers")
	}

	out := ok(t, with("backfill", "start", "orders", "order", "--rate", "500")...)
	if want := "complete: 40 listed, 0 matched, 40 missed, 0 stale, 40 repaired, 0 unreadable, in 1 pages and "; !strings.HasPrefix(out, want) {
		t.Errorf("backfill: %s, want %s…", out, want)
	}
	until(t, "the records are at the destination", func() bool { return count(db, "SELECT count(*) FROM records") == 40 })

	lines := strings.Split(strings.TrimSpace(ok(t, with("backfill", "start", "orders", "order", "--json")...)), "\n")
	last := &adminv1.Backfill{}
	decodeMessage(t, lines[len(lines)-1], last)
	if !last.GetComplete() || last.GetCounts()["matched"] != 40 || last.GetCounts()["missed"] != 0 || backfillWord(last) != "ended" || last.GetShare() != 1 {
		t.Errorf("the last line as JSON: %v", last)
	}
	if got := p.cursor(); got != cursor {
		t.Errorf("the schedule's cursor is %s, want it as it was, %s", got, cursor)
	}

	all := ok(t, with("backfill", "status")...)
	if strings.Count(all, "orders order") != 3 || !strings.Contains(all, "100%") || !strings.Contains(all, "the beginning") {
		t.Errorf("status:\n%s", all)
	}
	one := ok(t, with("backfill", "status", last.GetId())...)
	if !strings.Contains(one, "complete: 40 listed, 40 matched") || !strings.Contains(one, last.GetId()) {
		t.Errorf("status of one:\n%s", one)
	}
	if state := told(t, &adminv1.GetBackfillResponse{}, with("backfill", "status", last.GetId())...); len(state.GetAccounts()) != 1 {
		t.Errorf("status as JSON: %v", state)
	}
	reports := ok(t, with("reconcile", "report", "--format", "json")...)
	if n := strings.Count(reports, `"trigger": "backfill"`); n != 3 {
		t.Errorf("%d reports of backfills, want 3", n)
	}
}

// Promise 7: what a backfill lists is older than what webhooks bring meanwhile,
// and arrives later; the destination ends with the newest all the same.
func TestPromise7BackfillNeverOverwritesWhatIsNewer(t *testing.T) {
	t.Parallel()
	for name, against := range map[string]string{
		"against the ledger":      "",
		"against the destination": `, against: [ledger, "destination:warehouse"]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const records = 20
			s := startGated(t)
			p := startLive(t, s.shop, liveOptions{
				reconcile: against, more: "destinations: {warehouse: {sqlite: {path: \"DIR/data/tercel.db\"}}}\n",
			})
			with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
			p.scheduledOnce()
			for i := range records { // which no webhook tells of
				s.put(fmt.Sprint("o", i), 1)
			}
			release := s.hold()
			defer release()
			ended := make(chan outcome, 1)
			go func() { ended <- tercel(t, "", with("backfill", "start", "orders", "order")...) }()
			<-s.held // it has read the first versions
			db := p.local()
			for version := 2; version <= 3; version++ {
				for i := range records {
					s.put(fmt.Sprint("o", i), version)
					p.send(fmt.Sprintf("d-%d-%d", i, version), fmt.Sprintf(`{"type":"order.changed","id":"o%d","to":%d}`, i, version))
				}
			}
			const newest = `SELECT count(*) FROM records WHERE record LIKE '%"version":3%'`
			until(t, "webhooks have brought the newest", func() bool { return count(db, newest) == records })
			release()
			if o := <-ended; o.code != boot.OK || !strings.Contains(o.out, fmt.Sprintf("%d listed", records)) || strings.Contains(o.out, " 0 repaired") {
				t.Fatalf("backfill: exit %d\n%s%s", o.code, o.out, o.err)
			}
			until(t, "the older versions have arrived", func() bool {
				return count(db, "SELECT count(*) FROM events WHERE origin = 'backfill'") == records
			})
			if n := count(db, newest); n != records {
				t.Errorf("%d of %d records are in the newest version", n, records)
			}
		})
	}
}

// What is not complete says why, exits 1, and can be resumed once it is mended.
func TestBackfillThatIsNotCompleteSaysWhy(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	p.scheduledOnce()
	s.put("1", 1)
	s.put("2", 1)
	s.putRaw("3", `{"id":"3","updated_at":"2026-01-01T00:00:00Z"}`)
	s.put("4", 1)
	o := tercel(t, "", with("backfill", "start", "orders", "order")...)
	if o.code != boot.Failed || !strings.HasPrefix(o.out, "NOT complete: 4 listed, 0 matched, 3 missed, 0 stale, 3 repaired, 1 unreadable") ||
		!strings.Contains(o.out, "because: 1 records could not be read") {
		t.Errorf("with one that can't be read: exit %d\n%s%s", o.code, o.out, o.err)
	}
	s.put("3", 1)
	s.breakDown("list", true)
	o = tercel(t, "", with("backfill", "start", "orders", "order")...)
	if o.code != boot.Failed || !strings.HasPrefix(o.out, "NOT complete: 0 listed") || !strings.Contains(o.out, "status 422") {
		t.Errorf("with a list that is refused: exit %d\n%s%s", o.code, o.out, o.err)
	}
	s.breakDown("list", false)
	var all []struct{ ID string }
	if err := json.Unmarshal([]byte(ok(t, with("backfill", "status", "--json")...)), &all); err != nil || len(all) != 2 {
		t.Fatalf("status: %+v, %v", all, err)
	}
	if out := ok(t, with("backfill", "resume", all[1].ID)...); !strings.HasPrefix(out, "complete: 4 listed") {
		t.Errorf("resumed: %s", out)
	}
	if o := tercel(t, "", with("backfill", "pause", all[1].ID)...); o.code != boot.Failed || !strings.Contains(o.err, "has ended") || strings.Contains(o.err, "--force") {
		t.Errorf("paused when it had ended: exit %d, %q; want that said, and no flag that there isn't", o.code, o.err)
	}
}

func TestBackfillIsPausedResumedAndCancelledByHand(t *testing.T) {
	t.Parallel()
	s := startGated(t)
	p := startLive(t, s.shop, liveOptions{})
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	p.scheduledOnce()
	s.put("1", 1)
	release := s.hold()
	defer release()
	id := strings.TrimSpace(ok(t, with("backfill", "start", "orders", "order", "--detach")...))
	<-s.held
	if o := tercel(t, "", with("backfill", "start", "orders", "order")...); o.code != boot.Failed || !strings.Contains(o.err, id+" covers some of these records and is running") {
		t.Errorf("a second one: exit %d, %s", o.code, o.err)
	}
	if o := tercel(t, "", with("backfill", "pause")...); o.code != boot.OK || !strings.Contains(o.err, id+" is paused") {
		t.Errorf("pause: exit %d, %s", o.code, o.err)
	}
	if out := ok(t, with("backfill", "status", id)...); !strings.Contains(out, "paused") {
		t.Errorf("status while paused:\n%s", out)
	}
	ok(t, with("reconcile", "pause", "orders")...)
	ok(t, with("backfill", "resume", "--detach")...)
	if out := ok(t, with("backfill", "status", id)...); !strings.Contains(out, "reconciliation of orders is paused") {
		t.Errorf("status while all of the source is paused:\n%s", out)
	}
	ok(t, with("reconcile", "resume", "orders")...)
	<-s.held
	ok(t, with("backfill", "cancel", id)...)
	o := tercel(t, "", with("backfill", "status", id, "--follow")...)
	if o.code != boot.Failed || !strings.HasPrefix(o.out, "NOT complete: 0 listed") || !strings.Contains(o.out, "cancelled") {
		t.Errorf("after it was cancelled: exit %d\n%s%s", o.code, o.out, o.err)
	}
	release()
	if out := ok(t, with("backfill", "start", "orders", "order", "--json")...); !strings.Contains(out, `"complete":true`) {
		t.Errorf("another one: %s", out)
	}
}

func TestBackfillCommandsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	for name, tt := range map[string]struct {
		args string
		code int
		want string
	}{
		"no time":             {"start orders order --from soon", boot.Usage, "--from soon: want a date as 2026-01-31 (UTC), a time"},
		"a day that isn't":    {"start orders order --to 2026-02-31", boot.Usage, "--to 2026-02-31: want a date"},
		"end before begin":    {"start orders order --from 2026-02-01 --to 2026-01-01", boot.Usage, "want a time after --from 2026-02-01"},
		"end at begin":        {"start orders order --from 2026-02-01 --to 2026-02-01", boot.Usage, "want a time after"},
		"to come":             {"start orders order --to 2999-01-01", boot.Usage, "still to come: leave it out for now"},
		"no filter":           {"start orders order --from 720h", boot.Usage, "can't be filtered by time (reconcile.since): ask for all of it"},
		"slices":              {"start orders order --slices 4", boot.Usage, "ask for 1 slice"},
		"too many slices":     {"start orders order --slices 4000", boot.Usage, "1 to 64 slices"},
		"a rate below 0":      {"start orders order --rate=-1", boot.Usage, "want at least 1"},
		"two kinds of range":  {"start orders order --account a --all-accounts", boot.Usage, "can't be used together"},
		"an unknown source":   {"start order order", boot.Failed, "known are orders/order"},
		"an unknown account":  {"start orders order --account north", boot.Failed, `no account "north"`},
		"an unknown resource": {"start orders orders", boot.Failed, "known are orders/order"},
		"none to pause":       {"pause", boot.Failed, "no backfill is under way"},
		"an unknown one":      {"cancel x1", boot.Failed, "no such backfill: x1"},
		"status of unknown":   {"status x1", boot.Failed, "no such backfill: x1"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{"backfill"}, strings.Fields(tt.args)...), "--api", p.ConsoleURL)
			o := tercel(t, "", args...)
			if o.code != tt.code || !strings.Contains(o.err, tt.want) || o.out != "" {
				t.Errorf("exit %d\n%s%s, want %d and %q", o.code, o.out, o.err, tt.code, tt.want)
			}
		})
	}
}

// A dry run of reconciliation compares, repairs nothing and moves no cursor:
// nothing at all is written but its report.
func TestDryRunOfReconciliationWritesNothing(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	p.scheduledOnce()
	for i := range 10 {
		s.put(fmt.Sprint("o", i), 1)
	}
	cursors, raw := p.written("KV_"+topology.BucketCursors), p.written(topology.StreamRaw)
	r := reconciled(t, "reconcile", "run", "orders", "order", "--dry-run", "--api", p.ConsoleURL)
	if n := r.GetCounts(); !r.GetDryRun() || n["listed"] != 10 || n["missed"] != 10 || n["repaired"] != 0 {
		t.Errorf("report %v, want 10 missed and none repaired", r)
	}
	if got := p.written("KV_" + topology.BucketCursors); got != cursors {
		t.Errorf("%d writes to the cursors", got-cursors)
	}
	if got := p.written(topology.StreamRaw); got != raw {
		t.Errorf("%d triggers were stored", got-raw)
	}
}
