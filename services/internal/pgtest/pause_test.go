package pgtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// All processes of a paused server stand still, and go on together.
func TestAPausedServerStandsStill(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	await(t, s, "several run", func(states string) bool { return len(states) > 3 && !strings.Contains(states, "T") })
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Resume() })
	await(t, s, "all are stopped", func(states string) bool { return len(states) > 3 && strings.Trim(states, "T") == "" })
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	await(t, s, "all run", func(states string) bool { return len(states) > 3 && !strings.Contains(states, "T") })
}

// await waits for a condition of the states of the server's processes, which have
// a letter each (proc_pid_stat(5)).
func await(t *testing.T, s *pgtest.Server, what string, ok func(states string) bool) {
	t.Helper()
	over := time.After(time.Minute)
	for {
		states := processes(t, s)
		if ok(states) {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-over:
			t.Fatalf("not within a minute: %s; the processes are %q", what, states)
		}
	}
}

func processes(t *testing.T, s *pgtest.Server) (states string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		if _, err := fmt.Sscanf(string(text), "%d (postgres) %s %d", &pid, &state, &parent); err != nil || state == "Z" { // not one of it, or one that has ended
			continue
		}
		if pid == s.PID() || parent == s.PID() {
			states += state
		}
	}
	return states
}
