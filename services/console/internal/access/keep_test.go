package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/watch"
)

// kept are two viewers whose tokens are in files.
type kept struct {
	*testing.T
	gate       *access.Gate
	alice, bob string // paths
	log        strings.Builder
}

// keep runs a gate in a bubble of synctest, where one goroutine has the log at a
// time.
func keep(t *testing.T) *kept {
	t.Helper()
	dir := t.TempDir()
	k := &kept{T: t, alice: filepath.Join(dir, "alice"), bob: filepath.Join(dir, "bob")}
	tokens := map[string]pipeline.Token{}
	for name, path := range map[string]string{"alice": k.alice, "bob": k.bob} {
		replace(t, path, token+" of "+name)
		text, err := json.Marshal(map[string]string{"role": "viewer", "token": "file:" + path})
		if err != nil {
			t.Fatal(err)
		}
		var in pipeline.Token
		if err := config.Decode("token", text, &in); err != nil {
			t.Fatal(err)
		}
		tokens[name] = in
	}
	var err error
	k.gate, err = access.New(access.Config{Console: pipeline.Console{Listen: "127.0.0.1:0", Tokens: tokens}},
		access.Deps{Log: slog.New(slog.NewTextHandler(&k.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go k.gate.Keep(ctx)
	return k
}

// looks lets the gate look at its files a few times.
func (k *kept) looks() {
	<-time.After(3*watch.Interval + time.Millisecond)
	synctest.Wait()
}

func (k *kept) wantHolder(token, want string) {
	k.Helper()
	switch c, err := k.gate.Check(token, "192.0.2.1"); {
	case want == "" && !errors.Is(err, access.ErrUnknown):
		k.Errorf("%q is the token of %q, %v; want nobody's", token, c.Name, err)
	case want != "" && c.Name != want:
		k.Errorf("%q is the token of %q, %v; want %s's", token, c.Name, err, want)
	}
}

func (k *kept) wantWarnings(want int) {
	k.Helper()
	if got := strings.Count(k.log.String(), "token not read"); got != want {
		k.Errorf("%d warnings, want %d:\n%s", got, want, k.log.String())
	}
}

// replace gives a file another content at once.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// What kept a token from being taken over may go without a change of its file:
// here another name has the same one for a while.
func TestATokenThatWasAnothersIsTakenWhenItIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := keep(t)
		replace(t, k.alice, token+" of bob")
		k.looks()
		k.wantHolder(token+" of bob", "bob")
		k.wantHolder(token+" of alice", "alice")
		k.wantWarnings(1)
		replace(t, k.bob, token+" of bob, the next")
		k.looks()
		k.wantHolder(token+" of bob", "alice")
		k.wantHolder(token+" of bob, the next", "bob")
		k.wantHolder(token+" of alice", "")
		k.wantWarnings(1)
	})
}

// As when a file's owner or mode is mended, nothing of the file has changed that
// is looked at: its text is another one of the same length and time.
func TestATokenThatCouldNotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := keep(t)
		next := token + " of alice, the next"
		replace(t, k.alice, strings.Repeat("\n", len(next)))
		k.looks()
		k.wantHolder(token+" of alice", "alice")
		k.wantWarnings(1)
		before, err := os.Stat(k.alice)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(k.alice, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(next)
		if err := errors.Join(err, f.Close(), os.Chtimes(k.alice, before.ModTime(), before.ModTime())); err != nil {
			t.Fatal(err)
		}
		k.looks()
		k.wantHolder(next, "alice")
		k.wantHolder(token+" of alice", "")
		k.wantWarnings(1)
	})
}
