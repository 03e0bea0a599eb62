package clock_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/clock"
)

// program is a running testdata/tell.
type program struct {
	t     *testing.T
	begun time.Time // before it was started
	in    io.Writer
	out   *json.Decoder
}

// answer is what it tells.
type answer struct {
	Now        time.Time     // by its clock
	Sent       time.Time     // what a timer sent for the time
	Elapsed    time.Duration // since it was started
	Goroutines int
}

// start runs the program that was built into dir until the test ends.
func start(t *testing.T, dir string, env ...string) *program {
	t.Helper()
	// Not the test's own context: that ends too early for a good end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "tell"))
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, begun: time.Now(), in: in, out: json.NewDecoder(out)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ask has the program tell, and checks that time elapses for it as for the test.
// It returns the least and the most that its clock can be off.
func (p *program) ask() (least, most time.Duration, a answer) {
	p.t.Helper()
	before := time.Now()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatal(err)
	}
	if err := p.out.Decode(&a); err != nil {
		p.t.Fatal(err)
	}
	after := time.Now()
	if whole := after.Sub(p.begun); a.Elapsed < 0 || a.Elapsed > whole {
		p.t.Errorf("%s have elapsed for the program, within %s", a.Elapsed, whole)
	}
	// The wall clock alone: the program's times have no other.
	return a.Now.Sub(after.Round(0)), a.Now.Sub(before.Round(0)), a
}

// awaitOffset waits until the program's clock is off by want, and so is what its
// timers send.
func (p *program) awaitOffset(want time.Duration) {
	p.t.Helper()
	for begun := time.Now(); ; {
		least, most, a := p.ask()
		by := a.Now.Sub(a.Sent)
		if least <= want && want <= most && by >= 0 && by <= most-least {
			return
		}
		if time.Since(begun) > time.Minute {
			p.t.Fatalf("the clock is off by %s to %s, want %s; its timer is %s behind", least, most, want, by)
		}
	}
}

func build(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := clock.Build(t.Context(), dir, "./testdata/tell"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A running program's clock goes forward and back as it is set, and nothing else
// of it does: no timer of an hour rings when the clock moves by a day.
func TestSet(t *testing.T) {
	t.Parallel()
	dir := build(t)
	file := filepath.Join(dir, "clock")
	p := start(t, dir, clock.Variable+"="+file)
	p.awaitOffset(0)
	for _, offset := range []time.Duration{
		36 * time.Hour, -36 * time.Hour, 10*time.Minute + time.Nanosecond, -999_999_999, 999_999_999, 0,
	} {
		if err := clock.Set(file, offset); err != nil {
			t.Fatal(err)
		}
		p.awaitOffset(offset)
	}
}

// A program that starts has the clock that was set before from its first moment.
func TestSetBeforeTheStart(t *testing.T) {
	t.Parallel()
	dir := build(t)
	file := filepath.Join(dir, "clock")
	const offset = -10 * time.Minute
	if err := clock.Set(file, offset); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, clock.Variable+"="+file)
	if least, most, _ := p.ask(); offset < least || offset > most {
		t.Errorf("the clock is off by %s to %s, want %s", least, most, offset)
	}
}

// Without the variable a program has the machine's clock, and nothing runs in it
// that wouldn't otherwise.
func TestWithoutTheVariable(t *testing.T) {
	t.Parallel()
	p := start(t, build(t), clock.Variable+"=")
	least, most, a := p.ask()
	if least > 0 || most < 0 {
		t.Errorf("the clock is off by %s to %s, want not at all", least, most)
	}
	if a.Goroutines != 1 {
		t.Errorf("%d goroutines, want 1", a.Goroutines)
	}
}
