package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/destination"
	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// Records that the source deleted without a word are found, shown, and, once
// somebody says yes, deleted in SQLite and Postgres. One that comes back is there
// again, and the pipeline's own audit finds nothing amiss.
func TestOrphansAreDeletedAtDestinations(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	server := pgtest.Start(t)
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte(server.URL(pgtest.Superuser, pgtest.Database, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startLive(t, s, liveOptions{
		reconcile: `, against: [ledger, "destination:warehouse", "destination:lake"], deletes: {every: 168h}`,
		more: fmt.Sprintf(`destinations:
  warehouse: {sqlite: {path: "DIR/warehouse.db"}}
  lake: {postgres: {dsn: "file:%s"}}
`, dsn),
	})
	held := p.holders(t)
	ids := []string{"a1", "A1", "b2", "c3", "d4", "e5", "f6", "g7", "h8", "i9"}
	for _, id := range ids {
		s.put(id, 1)
		p.send("d-"+id, `{"type":"order.made","id":"`+id+`"}`)
	}
	slices.Sort(ids)
	everywhere := func(want ...string) func() bool {
		return func() bool {
			for _, ids := range held() {
				if !slices.Equal(ids, want) {
					return false
				}
			}
			return true
		}
	}
	until(t, "all records are delivered", everywhere(ids...))

	s.remove("a1", "c3")
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	look := func(args ...string) *adminv1.ReconciliationReport {
		return reconciled(t, with(append([]string{"reconcile", "run", "orders", "order", "--deletes"}, args...)...)...)
	}
	r := &adminv1.ReconciliationReport{}
	until(t, "the records are older than a scan", func() bool {
		r = look()
		return r.GetCounts()["orphaned"] == 2
	})
	if r.GetDeletes().GetTombstones() != 0 || !r.GetDryRun() || r.GetDestinations()["warehouse"].GetCounts()["orphaned"] != 2 || r.GetDestinations()["lake"].GetCounts()["orphaned"] != 2 {
		t.Errorf("report %v %v, want two orphans at each destination and no tombstone", r.GetCounts(), r.GetDeletes())
	}
	shown := tercel(t, "", with("reconcile", "run", "orders", "order", "--deletes")...)
	if shown.code != boot.OK || !strings.Contains(shown.err, "2 records would be deleted at the destinations") || !everywhere(ids...)() {
		t.Errorf("exit %d with %s%s, want the count alone", shown.code, shown.out, shown.err)
	}

	if r = look("--yes"); r.GetCounts()["orphaned"] != 2 || r.GetDeletes().GetTombstones() != 2 || !r.GetComplete() {
		t.Errorf("report %v %v, want two tombstones", r.GetCounts(), r.GetDeletes())
	}
	until(t, "the orphans are deleted", everywhere("A1", "b2", "d4", "e5", "f6", "g7", "h8", "i9"))
	for format, want := range map[string]string{
		"json": `"verdict": "orphaned"`, "md": "| 10 | 2 | 0 | 2 | 0 | 2 |", "csv": ",c3,,orphaned,,", // of the pipeline
	} {
		o := tercel(t, "", with("reconcile", "report", "--gaps", "--format", format)...)
		if format == "csv" {
			want = strings.ReplaceAll(want, ",c3,,", ",c3,"+version(t, o.out, "c3")+",")
		}
		if o.code != boot.OK || !strings.Contains(o.out, want) {
			t.Errorf("%s: exit %d, %q in\n%s%s", format, o.code, want, o.out, o.err)
		}
	}
	if o := tercel(t, "", with("reconcile", "status")...); o.code != boot.OK || !strings.Contains(o.out, "ORPHANED") {
		t.Errorf("status: exit %d\n%s%s", o.code, o.out, o.err)
	}

	s.put("a1", 1) // even in the version that it had
	p.send("d-back", `{"type":"order.remade","id":"a1"}`)
	until(t, "what came back is there again", everywhere("A1", "a1", "b2", "d4", "e5", "f6", "g7", "h8", "i9"))
	if r = look(); r.GetCounts()["orphaned"] != 0 || r.GetDeletes().GetUnlisted() != 0 {
		t.Errorf("report %v %v, want nothing orphaned", r.GetCounts(), r.GetDeletes())
	}

	// Most of it gone at once is rather a mistake than so many deletions.
	s.remove("A1", "a1", "b2", "d4", "e5", "f6")
	until(t, "the guard sees all of it", func() bool {
		o := tercel(t, "", with("reconcile", "run", "orders", "order", "--deletes", "--yes", "--json")...)
		return protojson.Unmarshal([]byte(o.out), r) == nil && r.GetDeletes().GetUnlisted() == 6 && o.code != boot.OK
	})
	if !strings.Contains(r.GetDeletes().GetStopped(), "6 of the 9 records") || r.GetCounts()["orphaned"] != 0 || r.GetDeletes().GetTombstones() != 0 || !everywhere("A1", "a1", "b2", "d4", "e5", "f6", "g7", "h8", "i9")() {
		t.Errorf("report %v, want it stopped", r.GetDeletes())
	}
	if o := tercel(t, "", with("reconcile", "run", "orders", "order", "--yes")...); o.code != boot.Usage {
		t.Errorf("--yes alone: exit %d, want a usage error", o.code)
	}
}

// version is a record's in the rows of a report.
func version(t *testing.T, text, id string) string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row[6] == id {
			return row[7]
		}
	}
	return ""
}

// holders returns a function that lists the records of each destination that
// aren't deleted, in order.
func (p *livePipeline) holders(t *testing.T) func() [2][]string {
	t.Helper()
	var readers [2]*destination.Reader
	for i, name := range []string{"warehouse", "lake"} {
		r, err := destination.Open(t.Context(), name, p.source.Destinations[name])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		readers[i] = r
	}
	k := destination.Key{Source: "orders", Account: "_", Resource: "order"}
	return func() (ids [2][]string) {
		for i, r := range readers {
			for h, err := range r.All(t.Context(), k) {
				if err != nil {
					break // it isn't there yet
				}
				if !h.Deleted {
					ids[i] = append(ids[i], h.ID)
				}
			}
			slices.Sort(ids[i])
		}
		return ids
	}
}
