package ndjson_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
	"github.com/tercelhq/tercel/services/sink/internal/ndjson"
)

func open(t testing.TB, dir string, maxSize int64) *ndjson.Folder {
	t.Helper()
	f, err := ndjson.Open(t.Context(), ndjson.Config{Dir: dir, MaxSize: maxSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// items are the events from number a to b-1, all of one size.
func items(a, b int) []delivery.Item {
	var all []delivery.Item
	for n := a; n < b; n++ {
		all = append(all, delivery.Item{
			Event: event.Event{
				ID: fmt.Sprintf("evt-%05d", n), Source: "orders", Account: "_", Type: "ping", Origin: event.Webhook,
				ReceivedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
			},
			Trigger: []byte(`{"text":"` + strings.Repeat("x", 100) + `"}`), Sequence: 1,
		})
	}
	return all
}

// write writes items and returns how many were duplicates.
func write(t testing.TB, f *ndjson.Folder, items []delivery.Item) (duplicates int) {
	t.Helper()
	for _, r := range f.Write(t.Context(), items) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if r.Duplicate {
			duplicates++
		}
	}
	return duplicates
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// name is the path of a folder's file n.
func name(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("events-%06d.ndjson", n)) }

func TestLineIsAsDocumented(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := time.Date(2026, 3, 1, 12, 0, 0, 7, time.UTC)
	write(t, open(t, dir, 1<<20), []delivery.Item{{
		Event: event.Event{
			ID: "e\"1", Source: "orders", Account: "north", Type: "order.paid", Origin: event.Webhook, ReceivedAt: at,
			Resource: "order", RecordID: "7", Version: "n0013", ObservedAt: at, Deleted: true,
		},
		Trigger: []byte("{\n  \"n\": 1.0\r\n}"), Related: []byte(`{"a": null}`), Sequence: 9,
	}})
	line := read(t, name(dir, 1))
	before, rest, _ := strings.Cut(line, `"written_at":"`)
	written, after, _ := strings.Cut(rest, `"`)
	got := before + after
	want := `{"event_id":"e\"1","source":"orders","account":"north","type":"order.paid","resource":"order","record_id":"7",` +
		`"version":"n0013","origin":"webhook","deleted":true,"event_time":null,"received_at":"2026-03-01T12:00:00.000000007Z",` +
		`"observed_at":"2026-03-01T12:00:00.000000007Z",,"sequence":9,"trigger":{"n":1.0},"record":null,"related":{"a": null}}` + "\n"
	if got != want {
		t.Errorf("line without written_at\n got %s\nwant %s", got, want)
	}
	if _, err := time.Parse(time.RFC3339Nano, written); err != nil {
		t.Error(err)
	}
}

func TestFilesRotateAtMaxSize(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	f := open(t, dir, 1<<20)
	write(t, f, items(0, 1))
	line := int64(len(read(t, name(dir, 1))))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, dir, 3*line)
	write(t, f, items(1, 8)) // 2 more into the first file, 3 and 2 into the next
	write(t, f, items(8, 10))
	for n, want := range map[int]int{1: 3, 2: 3, 3: 3, 4: 1} {
		if got := strings.Count(read(t, name(dir, n)), "\n"); got != want {
			t.Errorf("%d lines in file %d, want %d", got, n, want)
		}
	}
	// A line that is longer than a file may be gets one of its own.
	long := items(10, 12)
	long[0].Trigger = jsontext.Value(`"` + strings.Repeat("y", int(4*line)) + `"`)
	write(t, f, long)
	for n, want := range map[int]int{4: 1, 5: 1, 6: 1} {
		if got := strings.Count(read(t, name(dir, n)), "\n"); got != want {
			t.Errorf("%d lines in file %d, want %d", got, n, want)
		}
	}
	// Finished files may be moved away; their numbers are not used again.
	if err := os.Remove(name(dir, 2)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := write(t, open(t, dir, 3*line), items(0, 12)); got != 9 {
		t.Errorf("%d duplicates, want the 9 that are still there", got)
	}
}

// A crash leaves what had not been acknowledged half-written, and only that.
func TestATornEndIsCut(t *testing.T) {
	t.Parallel()
	tests := map[string]func(whole, next string) string{
		"half a line":             func(_, next string) string { return next[:len(next)/2] },
		"a line without its end":  func(_, next string) string { return next[:len(next)-1] },
		"zeros":                   func(_, _ string) string { return strings.Repeat("\x00", 5000) },
		"zeros and a line's end":  func(_, next string) string { return strings.Repeat("\x00", 4096) + next[200:] },
		"a line with a hole":      func(_, next string) string { return next[:200] + "\x00\x00\x00" + next[203:] },
		"one byte":                func(_, _ string) string { return "{" },
		"nothing":                 func(_, _ string) string { return "" },
		"a line that is too long": func(_, next string) string { return next[:len(next)/2] + strings.Repeat("x", 3<<20) },
	}
	for what, end := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := open(t, dir, 1<<30)
			write(t, f, items(0, 5))
			whole := read(t, name(dir, 1))
			write(t, f, items(5, 6))
			next := strings.TrimPrefix(read(t, name(dir, 1)), whole)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name(dir, 1), []byte(whole+end(whole, next)), 0o600); err != nil {
				t.Fatal(err)
			}
			f = open(t, dir, 1<<30)
			if got := read(t, name(dir, 1)); got != whole {
				t.Errorf("%d bytes are left, want %d", len(got), len(whole))
			}
			if got := write(t, f, items(0, 6)); got != 5 {
				t.Errorf("%d duplicates, want 5", got)
			}
			if got := strings.Count(read(t, name(dir, 1)), "\n"); got != 6 {
				t.Errorf("%d lines, want 6", got)
			}
		})
	}
}

// What no crash can do is not repaired at the cost of events.
func TestDamageInFrontOfLinesIsAnError(t *testing.T) {
	t.Parallel()
	for what, file := range map[string]int{"in the last file": 2, "in a finished file": 1} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := open(t, dir, 2000)
			write(t, f, items(0, 8))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			whole := read(t, name(dir, file))
			if err := os.WriteFile(name(dir, file), []byte("oops\n"+whole), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ndjson.Open(t.Context(), ndjson.Config{Dir: dir, MaxSize: 2000})
			if err == nil || !strings.Contains(err.Error(), name(dir, file)) || !strings.Contains(err.Error(), "line at byte 0 is damaged") {
				t.Errorf("Open() = %v, want the file and the place", err)
			}
			if got := read(t, name(dir, file)); got != "oops\n"+whole {
				t.Error("the file was changed")
			}
			if err := os.WriteFile(name(dir, file), []byte(whole), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := write(t, open(t, dir, 2000), items(0, 8)); got != 8 { // the lock was released
				t.Errorf("%d duplicates, want 8", got)
			}
		})
	}
}

func TestAFolderHasOneWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	_, err := ndjson.Open(t.Context(), ndjson.Config{Dir: dir, MaxSize: 1 << 20})
	if err == nil || !strings.Contains(err.Error(), "another process writes to it") {
		t.Errorf("Open() = %v, want that another writes", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, 1<<20)
}

func TestTheNewestEventsAreRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := ndjson.Config{Dir: dir, MaxSize: 2000} // about five lines
	remembering := func(n int) *ndjson.Folder {
		f, err := ndjson.OpenRemembering(t.Context(), cfg, n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	f := remembering(10)
	write(t, f, items(0, 25))
	if got := write(t, f, items(15, 25)); got != 10 {
		t.Errorf("%d duplicates, want the newest 10", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = remembering(10)
	if got := write(t, f, items(15, 25)); got != 10 {
		t.Errorf("after a restart: %d duplicates, want the newest 10", got)
	}
	if got := write(t, f, items(0, 5)); got != 0 {
		t.Errorf("%d duplicates of forgotten events, want 0", got)
	}
}

// The file that is written to may be moved or changed by mistake. Then nothing
// more is acknowledged (promise 5).
func TestPromise5AChangedFileTakesNoWrites(t *testing.T) {
	t.Parallel()
	tests := map[string]func(path string) error{
		"gone":     os.Remove,
		"moved":    func(path string) error { return os.Rename(path, path+".moved") },
		"replaced": func(path string) error { return os.Rename(path+".copy", path) },
		"cut":      func(path string) error { return os.Truncate(path, 10) },
		"longer":   func(path string) error { return os.Truncate(path, 10_000) },
	}
	for what, change := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := open(t, dir, 1<<20)
			write(t, f, items(0, 3))
			if err := os.WriteFile(name(dir, 1)+".copy", []byte(read(t, name(dir, 1))), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := change(name(dir, 1)); err != nil {
				t.Fatal(err)
			}
			for _, r := range f.Write(t.Context(), append(items(3, 5), items(3, 4)...)) { // with a repeat
				if r.Err == nil {
					t.Error("a write to the changed file was acknowledged")
				}
			}
			for _, r := range f.Write(t.Context(), items(0, 1)) { // which may be there no longer
				if r.Err == nil {
					t.Error("an event of before the change was acknowledged")
				}
			}
		})
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir(), 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range f.Write(ctx, items(0, 2)) {
		if r.Err == nil {
			t.Error("a write without time was acknowledged")
		}
	}
	if got := write(t, f, items(0, 2)); got != 0 {
		t.Errorf("%d duplicates, want 0", got)
	}
}

// Whatever a file holds, opening it is an error or leaves whole lines that are
// the beginning of what was there.
func FuzzMend(f *testing.F) {
	line := `{"event_id":"a","source":"b","account":"c"}` + "\n"
	f.Add([]byte(line + line[:20]))
	f.Add([]byte("x\n" + line))
	f.Add([]byte(line + "\x00\x00}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		size, err := ndjson.Mend(file)
		left := []byte(read(t, path))
		if !bytes.HasPrefix(data, left) {
			t.Fatalf("%q became %q", data, left)
		}
		if err != nil {
			if len(left) != len(data) {
				t.Errorf("cut though damaged: %v", err)
			}
			return
		}
		if int(size) != len(left) || size > 0 && left[size-1] != '\n' {
			t.Errorf("size %d of %q", size, left)
		}
		for l := range bytes.Lines(left) {
			if !jsontext.Value(l).IsValid() {
				t.Errorf("line %q is left", l)
			}
		}
	})
}

// One batch against one event at a time: it is the sync that costs.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 500} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			f := open(b, b.TempDir(), 64<<20)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				write(b, f, items(n, n+size))
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
