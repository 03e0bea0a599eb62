package model_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var plant = flag.Bool("plant", false, "plant bugs, and see that histories find each of them; takes minutes")

// edit changes a piece of the program that stands once in its file.
type edit struct{ file, old, new string }

// plants are bugs that histories must find. A bug that was found by them stands
// here too.
var plants = map[string]edit{
	"cursor saved before the page": {
		"services/reconciler/internal/run/compare.go",
		"	f := c.sort(records, p.requestedAt, &next)\n",
		`	f := c.sort(records, p.requestedAt, &next)
	if early := next; c.advance(p, f, &early) == nil {
		now := c.w
		c.w = early
		err := c.save(ctx, func(*cursor.Cursor) {})
		if c.w = now; err != nil {
			return err
		}
	}
`,
	},
	"exclusive bound": {
		"pkg/provider/bounds.go",
		"t = t.Add(-b.Format.Granule())", "",
	},
	"no overlap": {
		"services/reconciler/internal/run/begin.go",
		"w.From = through.Add(-r.list.Overlap)", "w.From = through",
	},
	"version guard off": {
		"services/sink/internal/sqlite/schema.go",
		"WHERE records.version IS NULL OR (excluded.version, excluded.observed_at, excluded.event_id)\n\t> (records.version, records.observed_at, records.event_id)`",
		"WHERE true`",
	},
	"ledger lag ignored": {
		"services/reconciler/internal/run/enriched.go",
		"func (r *Runner) awaitEnriched(ctx context.Context) (bool, error) {\n",
		"func (r *Runner) awaitEnriched(ctx context.Context) (bool, error) {\n\tif ctx != nil {\n\t\treturn true, nil\n\t}\n",
	},
	"ledger not caught up": {
		"services/reconciler/internal/run/ready.go",
		"if _, err := l.CatchUp(ctx); err != nil {", "if err := ctx.Err(); err != nil {",
	},
	"own clock believed for what is seen": {
		"services/reconciler/internal/run/page.go",
		"requestedAt: answer.ObservedAt", "requestedAt: answer.RequestedAt",
	},
	"own clock believed for a window's end": {
		"services/reconciler/internal/run/work.go",
		"c.w.To = c.bounded(p)", "c.bounded(p)",
	},
	"own clock believed for the first window's beginning": {
		"services/reconciler/internal/run/work.go",
		"if c.began(p) {", "if false {",
	},
	"tombstones by the own clock": {
		"services/reconciler/internal/run/ask.go",
		"a := answer{at: shown.ObservedAt}", "a := answer{at: shown.RequestedAt}",
	},
	"tombstones without asking": {
		"services/reconciler/internal/run/ask.go",
		"case a.gone:", "case part[i].id != \"\":",
	},
	"scheduled scans bury nothing": {
		"services/reconciler/internal/run/scan.go",
		"return r.opts.Tombstone || r.opts.Trigger == report.Schedule && r.deletes.Tombstone", "return r.opts.Tombstone",
	},
	"backfill beats what came meanwhile": {
		"services/reconciler/internal/run/repair.go",
		"RecordID: rec.id, Version: rec.version, ObservedAt: observedAt,", "RecordID: rec.id, Version: rec.version, ObservedAt: c.deps.Now(),",
	},
	"listed event left out of its page": {
		"services/reconciler/internal/run/resend.go",
		"if fates[i] != left {", "if fates[i] != left || i > 0 && i == len(gaps)-1 {",
	},
	"redelivery counted that has not come": {
		"services/reconciler/internal/run/redeliver.go",
		"			waiting[rec.id] = i\n", "			fates[i] = redelivered\n",
	},
	"restored records stay deleted": {
		"services/sink/internal/sqlite/schema.go",
		"deleted = records.deleted_at IS NOT NULL AND records.deleted_at > excluded.observed_at", "deleted = records.deleted",
	},
}

// root is where the repository begins.
const root = "../../.."

// Every planted bug can still be planted, and is found when it is.
func TestPlantedBugsAreFound(t *testing.T) {
	for name, bug := range plants {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join(root, bug.file))
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), bug.old); n != 1 {
				t.Fatalf("%s has the place %d times, want once", bug.file, n)
			}
			if !*plant {
				return
			}
			out := playWith(t, path, strings.Replace(string(text), bug.old, bug.new, 1))
			if !strings.Contains(out, "--- FAIL: TestDestinationEqualsSource") || !strings.Contains(out, "Repeat it with") {
				t.Fatalf("no history finds it:\n%s", out)
			}
			t.Log(out)
		})
	}
}

// playWith plays histories with another text in the place of a file, and returns
// what came of it.
func playWith(t *testing.T, path, text string) string {
	t.Helper()
	dir := t.TempDir()
	bad, overlay := filepath.Join(dir, "bad.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: bad}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", overlay, "-run", "Destination", ".")
	out, _ := cmd.CombinedOutput() // that it fails is wanted
	return string(out)
}
