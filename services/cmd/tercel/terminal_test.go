package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tercelhq/tercel/services/internal/boot"
)

// terminal is a real one: what a command writes to its inner end comes out of the
// outer one, and what is typed there can be read.
type terminal struct {
	outer, inner *os.File
	shown        *text
}

func startTerminal(t *testing.T) *terminal {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals are opened as Linux has them")
	}
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(outer.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	inner, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{outer, inner, &text{}}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(x.shown, outer) }() // until the inner end is closed
	t.Cleanup(func() {
		_ = inner.Close()
		<-read
		_ = outer.Close()
	})
	return x
}

// run runs a command at the terminal, its results too.
func (x *terminal) run(ctx context.Context, args ...string) int {
	return run(&app{ctx: ctx, in: x.inner, out: x.inner, err: x.inner}, args)
}

// At a terminal long work has a bar, and what changes more than one event is asked
// about with the number of them; no is no.
func TestATerminalIsAskedAndShowsABar(t *testing.T) {
	t.Parallel()
	const letters = 40
	var mended atomic.Bool
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !mended.Load() {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	t.Cleanup(crm.Close)
	p := startLive(t, startShop(t), liveOptions{
		more:   fmt.Sprintf("destinations:\n  crm: {http: {url: %q, secrets: [\"file:DIR/signing\"], allow_private: true}}\n", crm.URL),
		before: func(dir string) { writeFile(t, filepath.Join(dir, "signing"), "whsec_"+strings.Repeat("AAAA", 8)) },
	})
	for i := range letters {
		p.send(fmt.Sprint("d-", i), fmt.Sprintf(`{"type":"ping","n":%d}`, i))
	}
	until(t, "all are dead letters", func() bool {
		return strings.Contains(ok(t, "dlq", "groups", "--api", p.ConsoleURL), fmt.Sprintf("  %d    %d ", letters, letters))
	})
	x := startTerminal(t)
	if _, err := x.outer.WriteString("n\n"); err != nil {
		t.Fatal(err)
	}
	if code := x.run(t.Context(), "dlq", "discard", "--destination", "crm", "--reason", "a test", "--api", p.ConsoleURL); code != boot.Failed {
		t.Errorf("after a no: exit %d", code)
	}
	until(t, "it was asked", func() bool {
		return strings.Contains(x.shown.String(), "Discard 40 dead letters? [y/N]") && strings.Contains(x.shown.String(), "nothing was done")
	})
	mended.Store(true)
	if _, err := x.outer.WriteString("y\n"); err != nil {
		t.Fatal(err)
	}
	if code := x.run(t.Context(), "dlq", "replay", "--all", "--rate", "10", "--api", p.ConsoleURL); code != boot.OK {
		t.Errorf("after a yes: exit %d", code)
	}
	until(t, "a bar was shown, then the result", func() bool {
		shown := x.shown.String()
		return strings.Contains(shown, "Replay 40 messages? [y/N]") && strings.Contains(shown, clearLine+"[") && strings.Contains(shown, "#") &&
			strings.Contains(shown, "40/40 sent, 40 delivered, 0 dead again")
	})
	for piece := range strings.SplitSeq(x.shown.String(), clearLine) {
		line, _, _ := strings.Cut(piece, "\n")
		if n := len([]rune(strings.TrimSpace(line))); strings.HasPrefix(line, "[") && n > maxColumns {
			t.Errorf("a bar of %d columns can't be taken away: %q", n, line)
		}
	}
}

// Without a terminal the same is plain lines, each once.
func TestProgressElsewhereIsPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBar(&out)
	b.show(0.1, "1 of 10")
	b.show(0.1, "1 of 10")
	b.show(0.2, "2\x1b[2J of 10")
	b.end()
	if got, want := out.String(), "1 of 10\n2\uFFFD[2J of 10\n"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}

// What is watched is shown anew, in place at a terminal, until the command is
// ended, which is no failure; and it outlasts an API that goes away.
func TestWatchShowsItAgain(t *testing.T) {
	t.Parallel()
	p := startLive(t, startShop(t), liveOptions{})
	var away atomic.Bool
	console, err := url.Parse(p.ConsoleURL)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(console)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	x := startTerminal(t)
	for name, w := range map[string]struct {
		to    io.Writer
		shown *text
	}{"at a terminal": {x.inner, x.shown}, "elsewhere": {}} {
		if w.to == nil {
			w.shown = &text{}
			w.to = w.shown
		}
		away.Store(false)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() {
			ended <- run(&app{ctx: ctx, in: strings.NewReader(""), out: w.to, err: w.to}, []string{"event", "list", "--watch", "--interval", "100ms", "--api", proxy.URL})
		}()
		id := p.send("d-"+strings.ReplaceAll(name, " ", "-"), `{"type":"ping","of":"`+name+`"}`)
		until(t, "what has come since is shown", func() bool { return strings.Count(w.shown.String(), id) > 2 })
		away.Store(true)
		until(t, "that the API is away is shown", func() bool { return strings.Contains(w.shown.String(), "no admin API answers at") })
		away.Store(false)
		seen := strings.Count(w.shown.String(), id)
		until(t, "it goes on", func() bool { return strings.Count(w.shown.String(), id) > seen })
		cancel()
		if code := <-ended; code != boot.OK {
			t.Errorf("%s: exit %d, want 0", name, code)
		}
		if inPlace := strings.Contains(w.shown.String(), home); inPlace != (name == "at a terminal") {
			t.Errorf("%s: in place is %t", name, inPlace)
		}
	}
}

// The words of commands, flags and closed sets are completed, by the function and
// by a real shell.
func TestCommandLinesAreCompleted(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"dl":                              "dlq",
		"dlq r":                           "replay",
		"dlq replay --fo":                 "--force",
		"dlq replay --from ":              "verify enrich deliver",
		"dlq list --stage d":              "deliver",
		"event list --status dead":        "dead-letter",
		"--vers":                          "--version",
		"completion ":                     "bash zsh fish",
		"reconcile report --format ":      "json csv md",
		"dlq list --source shop --limit ": "",
		"compl":                           "completion",
		"nothing like it ":                "",
	} {
		var got []string
		for l := range strings.Lines(ok(t, append([]string{"complete", "--"}, strings.Split(line, " ")...)...)) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", line, got, want)
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "tercel"), "#!/bin/sh\n[ \"$*\" = 'complete -- dlq rep' ] && printf 'replay\\tSend dead letters\\n'\n")
	if err := os.Chmod(filepath.Join(dir, "tercel"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := ok(t, "completion", "bash") + "COMP_WORDS=(tercel dlq rep); COMP_CWORD=2; _tercel; echo \"${COMPREPLY[@]}\"; complete -p tercel\n"
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "replay\ncomplete -o default -F _tercel tercel\n" {
		t.Errorf("bash: %v\n%s", err, out)
	}
	for shell, want := range map[string]string{"zsh": "compdef _tercel tercel", "fish": "complete -c tercel"} {
		if out := ok(t, "completion", shell); !strings.Contains(out, want) {
			t.Errorf("%s: %s", shell, out)
		}
	}
	if o := tercel(t, "", "completion", "csh"); o.code != boot.Usage {
		t.Errorf("of a shell that isn't known: exit %d", o.code)
	}
}
