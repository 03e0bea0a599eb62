package sink_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/tercelhq/tercel/services/sink"
)

// The test program is its own victim: with these variables it does one thing to
// a destination, which stands in the second as in a pipeline file.
const (
	victim            = "TERCEL_TEST_VICTIM"
	victimDestination = "TERCEL_TEST_DESTINATION"
)

// victims are what the victim may do.
var victims = map[string]func(w sink.Writer) error{
	"write until killed": writeUntilKilled,
	"fill":               fillUp,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(victim); name != "" {
		p := place{yaml: os.Getenv(victimDestination)}
		w, err := p.open(context.Background())
		if err == nil {
			err = victims[name](w)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	databases.Main(m, endStore)
}

// victimOf makes a command that does the named thing to a place.
func victimOf(t *testing.T, name string, p *place) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), victim+"="+name, victimDestination+"="+p.yaml)
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// writeUntilKilled writes batch after batch and tells each event after its
// write.
func writeUntilKilled(w sink.Writer) error {
	for n := 0; ; n += 10 {
		batch := items(numbered(n, n+10)...)
		for i, r := range w.Write(context.Background(), batch) {
			if r.Err != nil {
				return r.Err
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
	p := k.place(t)
	acknowledged := 0
	for range 3 { // each round begins with what the last left
		cmd := victimOf(t, "write until killed", p)
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
	write(t, k, open(t, p), items(numbered(0, acknowledged)...), acknowledged)
	seen := map[string]int{}
	for _, r := range k.events(t, p) {
		if seen[r.EventID]++; seen[r.EventID] > 1 {
			t.Errorf("event %s is there twice", r.EventID)
		}
	}
	if len(seen) < acknowledged || acknowledged < 300 {
		t.Errorf("%d events are there, want the %d that were acknowledged", len(seen), acknowledged)
	}
}
