package process_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/process"
)

// bound is how long any wait of these tests may take.
const bound = time.Minute

// TestMain lets this program stand for the ones that are run: with a role it is
// one of them.
func TestMain(m *testing.M) {
	switch role := os.Getenv("TERCEL_PROCESS_ROLE"); role {
	case "":
		os.Exit(m.Run())
	case "fails":
		fmt.Println("no such luck")
		os.Exit(3)
	default: // has a file made for it when it is ready, and is ended by SIGTERM
		if err := os.WriteFile(role, nil, 0o600); err != nil {
			os.Exit(4)
		}
		for {
			time.Sleep(time.Microsecond)
		}
	}
}

func newProcess(t *testing.T) (*process.Process, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sign := filepath.Join(t.TempDir(), "ready")
	p := &process.Process{
		Path: self, Env: []string{"TERCEL_PROCESS_ROLE=" + sign}, Log: filepath.Join(t.TempDir(), "log"),
		Ready: func(context.Context) error { _, err := os.Stat(sign); return err },
	}
	t.Cleanup(p.Kill)
	return p, sign
}

func TestAProcessIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	p, sign := newProcess(t)
	if _, err := p.Usage(); !errors.Is(err, process.ErrNotRunning) || p.PID() != 0 {
		t.Errorf("before the start: Usage() = %v, PID() = %d", err, p.PID())
	}
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(); err == nil {
		t.Error("it was started twice")
	}
	first := p.PID()
	p.Kill()
	if err := os.Remove(sign); err != nil || p.PID() != 0 || p.Pause() == nil {
		t.Errorf("%v; after Kill: PID() = %d, want none, and nothing to pause", err, p.PID())
	}
	p.Kill() // of what has ended
	if err := p.Start(ctx); err != nil || p.PID() == first {
		t.Errorf("the second Start() = %v, as %d after %d", err, p.PID(), first)
	}
}

func TestAPausedProcessUsesNoProcessorTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	p, _ := newProcess(t)
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		return rest[:1]
	}
	want := func(ok func(string) bool) {
		t.Helper()
		if err := process.Await(ctx, func(context.Context) error {
			if s := state(); !ok(s) {
				return fmt.Errorf("state %s", s)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	want(func(s string) bool { return s == "T" })
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	want(func(s string) bool { return s != "T" })
	u, err := p.Usage()
	if err != nil || u.Memory <= 0 || u.Peak < u.Memory || u.Descriptors < 3 {
		t.Errorf("Usage() = %+v, %v", u, err)
	}
	if err := process.Await(ctx, func(context.Context) error {
		if u, err := p.Usage(); err != nil || u.CPU == 0 {
			return fmt.Errorf("%+v, %w", u, err)
		}
		return nil
	}); err != nil {
		t.Error("no processor time: ", err)
	}
}

func TestAProcessThatEndsAtItsStartIsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	p, _ := newProcess(t)
	p.Env = []string{"TERCEL_PROCESS_ROLE=fails"}
	if err := p.Start(ctx); err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "status 3") || ctx.Err() != nil {
		t.Errorf("Start() = %v, want how it ended and what it said", err)
	}
}

func TestStopTellsAnEndThatIsNoGoodOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	p, _ := newProcess(t)
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("Stop() = %v, want that the signal ended it", err)
	}
	if err := p.Stop(ctx); !errors.Is(err, process.ErrNotRunning) {
		t.Errorf("the second Stop() = %v, want %v", err, process.ErrNotRunning)
	}
	sleep := &process.Process{Path: "/bin/sh", Args: []string{"-c", "trap 'exit 0' TERM; while :; do :; done"}, Log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(sleep.Kill)
	sleep.Ready = func(context.Context) error { // the trap is set once it goes round
		if u, err := sleep.Usage(); err != nil || u.CPU == 0 {
			return fmt.Errorf("%+v, %w", u, err)
		}
		return nil
	}
	if err := sleep.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Stop(ctx); err != nil {
		t.Errorf("Stop() = %v of what ends well", err)
	}
	if err := sleep.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Pause(); err != nil {
		t.Fatal(err)
	}
	late, over := context.WithCancel(ctx)
	over()
	if err := sleep.Stop(late); !errors.Is(err, context.Canceled) || sleep.PID() != 0 {
		t.Errorf("Stop() = %v of what can't end, and it runs as %d; want it killed", err, sleep.PID())
	}
}

func TestAnswersQuotesWhatIsNoGoodAnswer(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, "the database is away")
	}))
	defer srv.Close()
	if err := process.Answers(srv.URL)(t.Context()); err != nil {
		t.Errorf("Answers() = %v of 200", err)
	}
	status = http.StatusServiceUnavailable
	if err := process.Answers(srv.URL)(t.Context()); err == nil || !strings.Contains(err.Error(), "the database is away") {
		t.Errorf("Answers() = %v of 503, want its text", err)
	}
	addr := srv.Listener.Addr().String()
	if err := process.Listens(addr)(t.Context()); err != nil {
		t.Errorf("Listens() = %v of an open port", err)
	}
	srv.Close()
	if err := process.Listens(addr)(t.Context()); err == nil {
		t.Error("Listens() = nil of a closed port")
	}
}

func TestFolderSize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, n := range map[string]int{"a": 10, filepath.Join("b", "c"): 7} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := process.FolderSize(dir); n != 17 || err != nil {
		t.Errorf("FolderSize() = %d, %v; want 17", n, err)
	}
}
