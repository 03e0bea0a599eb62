package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// command runs one command line.
func command(ctx context.Context, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(&app{ctx: ctx, in: strings.NewReader(""), out: &o, err: &e}, args)
	return code, o.String(), e.String()
}

func TestDemoLosesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	code, out, errs := command(t.Context(), "demo", "--events=200", "--drop=0.2", "--duplicate=0.1", "--forge=0.05",
		"--poison=0.02", "--seed=5", "--json", "--data="+dir)
	if code != 0 {
		t.Fatalf("exit code %d, want 0\n%s\n%s", code, out, errs)
	}
	var r demoResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("output: %v\n%s", err, out)
	}
	for what, ok := range map[string]bool{
		"sent and dropped are all changes":    r.Sent == 160 && r.Dropped == 40,
		"everything that was sent is taken":   r.Accepted == r.Sent && r.Undelivered == 0,
		"every forgery is refused":            r.Forged == 10 && r.ForgedRefused == 10 && r.ForgedAccepted == 0,
		"every repeat is absorbed":            r.DuplicatesSent == 20 && r.DuplicatesAbsorbed == 20,
		"what was missed is repaired":         r.MissedRepaired > 0 && r.Lost == 0,
		"dead letters are there and replayed": r.DeadLettered > 0 && r.Replayed == r.DeadLettered,
		"events have their records":           r.Delivered >= r.Accepted && r.Enriched > r.Delivered*9/10,
		"times are measured":                  r.P50 > 0 && r.P99 >= r.P50 && r.Seconds > 0,
		"the seed is told":                    r.Seed == 5,
		"nothing failed":                      len(r.Failures) == 0,
	} {
		if !ok {
			t.Errorf("not so: %s\n%s", what, out)
		}
	}
	if code, _, errs := command(t.Context(), "check", "-c", filepath.Join(dir, "tercel.yaml")); code != 0 {
		t.Errorf("tercel check of the demo's pipeline file: exit code %d\n%s", code, errs)
	}
	if code, _, errs := command(t.Context(), "demo", "--data="+dir); code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("a second demo in the same folder: exit code %d, %q, want 1 and why", code, errs)
	}
}

// A comparison that can't fail proves nothing: each fault that is planted in
// the destination has to be found.
func TestComparisonFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	d, err := newDemo(demoCmd{
		Events: 100, Drop: 0.1, Duplicate: 0.1, Poison: 0.05, Forge: 0.05, Seed: 9, Timeout: time.Minute,
		Data: filepath.Join(t.TempDir(), "demo"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close(true) })
	r, err := d.run(t.Context())
	if err != nil || len(r.Failures) > 0 {
		t.Fatalf("run: %v %q", err, r.Failures)
	}
	id, gone := "", ""
	for _, rec := range d.provider.Newest() {
		if rec.Deleted {
			gone = rec.ID
		} else if rec.Version > 1 {
			id = rec.ID
		}
	}
	tests := map[string]struct {
		plant   string
		arg     string
		want    func(demoResult) int
		failure string
	}{
		"a record is missing":          {`DELETE FROM records WHERE record_id = ?`, id, lost, "is not in the destination"},
		"a record is old":              {`UPDATE records SET version = 't2001-01-01T00:00:00.000000000Z' WHERE record_id = ?`, id, lost, "has version t2001"},
		"a record has other content":   {`UPDATE records SET record = json_set(record, '$.total', 1) WHERE record_id = ?`, id, lost, "other content"},
		"a record is no JSON":          {`UPDATE records SET record = '{' WHERE record_id = ?`, id, lost, "other content"},
		"a living record is deleted":   {`UPDATE records SET deleted = 1 WHERE record_id = ?`, id, lost, "deleted in the destination only"},
		"a deleted record lives on":    {`UPDATE records SET deleted = 0 WHERE record_id = ?`, gone, lost, "is not deleted"},
		"a deletion never came":        {`DELETE FROM records WHERE record_id = ?`, gone, lost, "is not in the destination"},
		"an event is missing":          {`DELETE FROM events WHERE delivery_id = ?`, genuine(d), undelivered, "not delivered"},
		"an event is there twice":      {duplicate, genuine(d), nil, "more than once"},
		"a forged event is there":      {`UPDATE events SET delivery_id = 'forged-1' || ?, event_id = 'forged-1' WHERE sequence = 1`, "", forged, "forged-1"},
		"a forged body is in an event": {`UPDATE events SET body = json_set(body, '$.trigger.delivery', 'forged-1' || ?) WHERE sequence = 1`, "", forged, "forged"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := plant(t, d, tt.plant, tt.arg)
			got := newResult(d.provider.Book(), proof.Compare(d.provider.Book(), d.provider.Newest(), far, true), far)
			if tt.want != nil && tt.want(got) != 1 {
				t.Errorf("count is %d, want 1", tt.want(got))
			}
			if !strings.Contains(strings.Join(got.Failures, "\n"), tt.failure) {
				t.Errorf("failures %q, want %q in them", got.Failures, tt.failure)
			}
		})
	}
}

func lost(r demoResult) int        { return r.Lost }
func undelivered(r demoResult) int { return r.Undelivered }
func forged(r demoResult) int      { return r.ForgedAccepted }

// duplicate copies an event under another id.
const duplicate = `INSERT INTO events SELECT source, account, event_id || '-2', type, resource, record_id, version, origin, deleted,
	delivery_id, event_time, received_at, observed_at, written_at, sequence, trace_id, body FROM events WHERE delivery_id = ?`

func genuine(d *demo) string {
	for _, a := range d.provider.Book().Deliveries {
		if a.Kind == simulator.Genuine && a.Taken() {
			return a.ID
		}
	}
	return ""
}

// plant copies the demo's database, changes one row of it, and reads it.
func plant(t *testing.T, d *demo, statement, arg string) proof.FarEnd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "planted.db")
	exec := func(file, statement, arg string) int64 {
		db, err := sql.Open("sqlite", file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		res, err := db.ExecContext(t.Context(), statement, arg)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := res.RowsAffected()
		return n
	}
	exec(d.folder.database(), "VACUUM INTO ?", path)
	if n := exec(path, statement, arg); n != 1 {
		t.Fatalf("%d rows changed, want 1", n)
	}
	planted, err := proof.Open(path, demoSource, demoResource)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = planted.Close() }()
	far, err := planted.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return far
}

func TestDemoRefusesWrongFlags(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"a share over 1": {"--drop=1.5"}, "no events": {"--events=-1"}, "no time": {"--timeout=0s"}, "no number": {"--forge=some"},
	} {
		code, _, errs := command(t.Context(), append([]string{"demo"}, args...)...)
		if code != 2 || errs == "" {
			t.Errorf("%s: exit code %d, %q, want 2 and why", name, code, errs)
		}
	}
}

func TestDemoThatTakesTooLongFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	code, out, errs := command(t.Context(), "demo", "--events=1000", "--rate=100", "--timeout=2s", "--json", "--data="+dir)
	if code != 1 || !strings.Contains(errs, "not done within 2s") {
		t.Errorf("exit code %d, want 1\n%s\n%s", code, out, errs)
	}
	if !strings.Contains(errs, "changes, ") {
		t.Errorf("no progress within 2s:\n%s", errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "tercel.log")); err != nil {
		t.Error(err)
	}
}

func TestPercentileIsNearestRank(t *testing.T) {
	t.Parallel()
	ten := make([]time.Duration, 10)
	for i := range ten {
		ten[i] = time.Duration(i+1) * time.Millisecond
	}
	got := map[string]time.Duration{
		"p50 of ten": percentile(ten, 0.5), "p99 of ten": percentile(ten, 0.99), "p0 of ten": percentile(ten, 0),
		"p50 of one": percentile(ten[:1], 0.5), "p99 of none": percentile(nil, 0.99),
	}
	want := map[string]time.Duration{
		"p50 of ten": 5 * time.Millisecond, "p99 of ten": 10 * time.Millisecond, "p0 of ten": time.Millisecond,
		"p50 of one": time.Millisecond, "p99 of none": 0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("percentiles %v, want %v", got, want)
	}
}

func TestDemoTableHasEveryFigure(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := demoResult{
		Sent: 101, Dropped: 102, Forged: 103, ForgedRefused: 104, ForgedAccepted: 105, Accepted: 106, DuplicatesSent: 107,
		DuplicatesAbsorbed: 108, Enriched: 109, Delivered: 110, MissedRepaired: 111, DeadLettered: 112, Replayed: 113,
		Undelivered: 114, Lost: 115, P50: 116, P99: 117, Seconds: 118, Seed: 119,
	}
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for n := 101; n <= 119; n++ {
		if !strings.Contains(out.String(), fmt.Sprint(n)) {
			t.Errorf("%d is not in the table:\n%s", n, out.String())
		}
	}
}

func TestInterruptedDemoLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	code, _, errs := command(ctx, "demo", "--rate=10")
	if code != 1 || !strings.Contains(errs, "interrupted") {
		t.Errorf("exit code %d, %q, want 1 and why", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
