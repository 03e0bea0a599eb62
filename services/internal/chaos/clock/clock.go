// Package clock builds programs whose wall clock can be set while they run, as
// that of a machine whose time service fails.
//
// Such a program is built with a changed time.Now, which adds what [Set] has
// written; only the machine's administrator could set the real clock, and that
// one for all programs. Elapsed time, timers and deadlines aren't touched, since
// they don't follow the wall clock of a real machine either; neither are the
// times that the kernel gives to files.
package clock

import (
	"bytes"
	"context"
	_ "embed" // for the source of the clock
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Variable is the environment variable that names the file from which a program
// reads how far its clock is off. A program without it has the machine's clock.
const Variable = "TERCEL_CHAOS_CLOCK"

// Lag is how long a program may take, as it elapses for the program, until it
// notices what was set.
const Lag = 100 * time.Millisecond

// Set puts the clocks of all programs that read file off by offset: the machine's
// time and that much more. It takes effect within [Lag].
func Set(file string, offset time.Duration) error {
	next := file + ".next"
	if err := os.WriteFile(next, []byte(offset.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(next, file) // whole or not at all
}

// Build builds packages, each a program named in one of the ways of "go build",
// into dir, which must exist. The first time it builds the standard library too,
// which takes a minute or two; Go's build cache keeps that.
//
// It returns an error if the standard library isn't the one that it knows.
func Build(ctx context.Context, dir string, packages ...string) error {
	root, err := run(ctx, "env", "GOROOT")
	if err != nil {
		return err
	}
	overlay, err := os.MkdirTemp("", "tercel-clock-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(overlay) }()
	replaced := filepath.Join(string(bytes.TrimSpace(root)), "src", "time", "time.go")
	source, err := os.ReadFile(replaced)
	if err != nil {
		return err
	}
	if source, err = settable(source); err != nil {
		return fmt.Errorf("%s: %w", replaced, err)
	}
	by, list := filepath.Join(overlay, "time.go"), filepath.Join(overlay, "overlay.json")
	if err := os.WriteFile(by, source, 0o600); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{replaced: by}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(list, text, 0o600); err != nil {
		return err
	}
	args := []string{"build", "-overlay", list, "-o", dir + string(filepath.Separator)}
	_, err = run(ctx, append(args, packages...)...)
	return err
}

func run(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return out, err
}

//go:embed source.txt
var addition []byte

// edits are what is changed in time.go, each of which must be there once.
var edits = []struct{ from, to string }{
	{"import (\n", "import (\n\t\"sync/atomic\"\n\t\"syscall\"\n"},
	{
		"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n",
		"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec, nsec = put(sec, nsec)\n",
	},
}

// settable returns the source of time.go with a clock that can be set.
func settable(source []byte) ([]byte, error) {
	for _, e := range edits {
		if n := bytes.Count(source, []byte(e.from)); n != 1 {
			return nil, fmt.Errorf("%q is there %d times, want once: not the standard library that is known here", e.from, n)
		}
		source = bytes.Replace(source, []byte(e.from), []byte(e.to), 1)
	}
	named := bytes.ReplaceAll(addition, []byte("VARIABLE"), []byte(Variable))
	named = bytes.ReplaceAll(named, []byte("LAG"), fmt.Appendf(nil, "%d", Lag/2))
	return append(source, named...), nil
}
