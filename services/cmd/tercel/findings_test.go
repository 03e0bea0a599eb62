package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What the audit found inside is shown by status and exported by report, in
// every format, and what stands in it breaks out of none.
func TestFindingsAreShown(t *testing.T) {
	t.Parallel()
	p := startLive(t, startShop(t), liveOptions{})
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if out := ok(t, "status", "--api", p.ConsoleURL); strings.Contains(out, "FOUND INSIDE") {
		t.Errorf("status of a sound pipeline:\n%s", out)
	}
	if out := ok(t, "reconcile", "report", "--inside", "--api", p.ConsoleURL); !strings.Contains(out, "Nothing.") {
		t.Errorf("report of a sound pipeline:\n%s", out)
	}
	f := report.Finding{
		At: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), Kind: report.StreamPurged, Name: topology.StreamRaw, Count: 7, Detail: "=7 messages | <b>\x1b[2J were deleted",
	}
	for _, id := range []string{"1", "1", "2"} { // the second repeats the first
		if err := report.PublishFinding(t.Context(), js, f, id); err != nil {
			t.Fatal(err)
		}
	}
	out := ok(t, "status", "--api", p.ConsoleURL)
	if !strings.Contains(out, "FOUND INSIDE") || strings.Count(out, "stream_purged") != 2 || strings.Contains(out, "\x1b[2J") {
		t.Errorf("status:\n%q", out)
	}
	for format, want := range map[string]string{
		"md": `\| &lt;b>`, "csv": "stream_purged,TERCEL_RAW,7,false,'=7 messages", "json": `"count": "7"`,
	} {
		out := ok(t, "reconcile", "report", "--inside", "--format", format, "--api", p.ConsoleURL)
		if !strings.Contains(out, want) {
			t.Errorf("report as %s has no %s:\n%s", format, want, out)
		}
	}
	if out := ok(t, "reconcile", "report", "--api", p.ConsoleURL); strings.Contains(out, "were deleted") {
		t.Errorf("findings are taken for reports of runs:\n%s", out)
	}
}
