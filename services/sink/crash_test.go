package sink_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
)

// The test program is its own victim: with this variable it writes batches to
// a destination until it is killed, and tells each event after its write.
const victim = "TERCEL_TEST_VICTIM"

func TestMain(m *testing.M) {
	if name, dir, ok := strings.Cut(os.Getenv(victim), ":"); ok {
		writeUntilKilled(kinds[name], dir)
	}
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	os.Exit(m.Run())
}

func writeUntilKilled(k kind, dir string) {
	w, err := k.open(context.Background(), dir)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	for n := 0; ; n += 10 {
		batch := items(numbered(n, n+10)...)
		for i, r := range w.Write(context.Background(), batch) {
			if r.Err != nil {
				fmt.Println("write:", r.Err)
				os.Exit(1)
			}
			fmt.Println(batch[i].Event.ID)
		}
	}
}

// numbered are the events of as many records.
func numbered(from, to int) []enriched {
	var events []enriched
	for n := from; n < to; n++ {
		events = append(events, update(fmt.Sprint("evt-", n), fmt.Sprint(n), 1, 1))
	}
	return events
}

func survivesKill(t *testing.T, k kind) {
	dir := t.TempDir()
	name := "files"
	if k.config(dir).SQLite != nil {
		name = "sqlite"
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for range 3 { // each round begins with what the last left
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), victim+"="+name+":"+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told := 0
		for lines := bufio.NewScanner(out); lines.Scan(); told++ {
			if lines.Text() != fmt.Sprint("evt-", told) {
				t.Fatalf("the writer says %q", lines.Text())
			}
			if told == 300 {
				if err := cmd.Process.Kill(); err != nil { // and read what it said before
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		acknowledged = max(acknowledged, told)
	}
	w := open(t, k, dir)
	write(t, w, items(numbered(0, acknowledged)...), acknowledged)
	seen := map[string]int{}
	for _, r := range k.rows(t, dir) {
		if seen[r.EventID]++; seen[r.EventID] > 1 {
			t.Errorf("event %s is there twice", r.EventID)
		}
	}
	if len(seen) < acknowledged || acknowledged < 300 {
		t.Errorf("%d events are there, want the %d that were acknowledged", len(seen), acknowledged)
	}
}
