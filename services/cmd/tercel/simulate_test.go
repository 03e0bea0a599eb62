package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// Two runs share no id, so that a receiver takes none for a repeat of the other;
// what they did is told by the provider itself.
func TestSimulateIsAProviderOfItsOwnEachTime(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got[r.Header.Get(simulator.HeaderDelivery)]++
	}))
	defer receiver.Close()
	var all []string
	for range 2 {
		book := simulateOnce(t, receiver.URL)
		if n := book.Counts(); n.Sent != 20 || n.Accepted != 20 {
			t.Errorf("sent %d, accepted %d, want 20 of both", n.Sent, n.Accepted)
		}
		for _, d := range book.Deliveries {
			all = append(all, d.ID)
		}
	}
	slices.Sort(all)
	if len(all) != 40 || len(slices.Compact(all)) != 40 || len(got) != 40 {
		t.Errorf("%d deliveries with %d ids, want 40 of both", len(all), len(got))
	}
}

// simulateOnce runs the command until all is sent and returns its book.
func simulateOnce(t *testing.T, target string) (book simulator.Book) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tercel.yaml")
	text := strings.NewReplacer("$SECRET", secretFile(t), "$TOKEN", secretFile(t), "$BASE", "http://127.0.0.1:1", "$DATABASE", "x.db").Replace(demoConfig)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told, tell := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(&app{ctx: ctx, in: strings.NewReader(""), out: io.Discard, err: tell}, []string{
			"simulate", "-c", file, "--source", "orders", "--target", target, "--listen", "127.0.0.1:0", "--events", "20", "--rate", "0",
			"--drop", "0", "--duplicate", "0", "--reorder", "0", "--forge", "0", "--poison", "0",
		})
		_ = tell.Close()
	}()
	line := make([]byte, 200)
	n, _ := told.Read(line)
	_, address, ok := bytes.Cut(line[:n], []byte("what it has done at "))
	if !ok {
		t.Fatalf("the command told %q, want where it can be watched", line[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, told) }()
	url := strings.TrimSpace(string(address))
	until(t, "all is sent", func() bool {
		var p simulator.Progress
		return getJSON(url, &p) == nil && p.Done
	})
	if err := getJSON(url+"/book", &book); err != nil {
		t.Fatal(err)
	}
	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d, want 0", c)
	}
	return book
}

// secretFile is a reference to a secret in a file.
func secretFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("a secret of enough length"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

func getJSON(url string, v any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return json.NewDecoder(resp.Body).Decode(v)
}
