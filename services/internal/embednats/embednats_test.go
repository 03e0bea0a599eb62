package embednats_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

func start(t *testing.T, cfg embednats.Config) *embednats.Server {
	t.Helper()
	s, err := embednats.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestStreamsSurviveARestart(t *testing.T) {
	t.Parallel()
	cfg := embednats.Config{Dir: t.TempDir(), Durability: topology.Synced}
	for round := range uint64(2) {
		s, err := embednats.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect("", s.Options()...)
		if err != nil {
			t.Fatal(err)
		}
		js, _ := jetstream.New(nc)
		if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
			t.Fatal(err)
		}
		if ack, err := js.Publish(t.Context(), "tercel.raw.s._.t", nil); err != nil || ack.Sequence != round+1 {
			t.Fatalf("publish after %d restarts: %+v, %v", round, ack, err)
		}
		nc.Close()
		s.Shutdown()
	}
}

// Promise 1: a synced event is on disk before it is acknowledged. No restart
// would show the difference, only a power cut.
func TestPromise1DurabilityIsTheServers(t *testing.T) {
	t.Parallel()
	for durability, want := range map[topology.Durability]bool{topology.Synced: true, topology.Relaxed: false} {
		if s := start(t, embednats.Config{Dir: t.TempDir(), Durability: durability}); s.Syncs() != want {
			t.Errorf("%s: the server syncs: %t, want %t", durability, s.Syncs(), want)
		}
	}
}

func TestOtherProcessesNeedTheTokenFromTheDataFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := make(chan string, 100)
	start(t, embednats.Config{Dir: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(told(log), nil))})
	url, ok := embednats.FindURL(dir)
	if !ok {
		t.Fatal("no address was left in the data folder")
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if fi, _ := os.Stat(filepath.Join(dir, "nats.url")); fi.Mode().Perm() != 0o600 {
		t.Errorf("the address with its token is readable as %s, want 0600", fi.Mode().Perm())
	}
	_, rest, _ := strings.Cut(url, "@")
	if nc, err := nats.Connect("nats://" + rest); err == nil {
		nc.Close()
		t.Error("a connection without the token was let in")
	}
	for over := time.After(time.Minute); ; {
		select {
		case line := <-log:
			if strings.Contains(line, "level=ERROR") && strings.Contains(line, "authentication error") {
				return
			}
		case <-over:
			t.Fatal("the log says nothing of a connection that was refused")
		}
	}
}

// told takes the lines of a log.
type told chan<- string

func (c told) Write(p []byte) (int, error) {
	select {
	case c <- string(p):
	default: // nobody reads on
	}
	return len(p), nil
}

func TestStartSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, embednats.Config{Dir: dir})
	taken := start(t, embednats.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	_, addr, _ := strings.Cut(taken.URL(), "@")
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "jetstream"), []byte("no folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  embednats.Config
		want string
	}{
		"folder in use": {embednats.Config{Dir: dir}, "--data"},
		"open address":  {embednats.Config{Dir: t.TempDir(), Listen: "0.0.0.0:4222"}, "loopback"},
		"no address":    {embednats.Config{Dir: t.TempDir(), Listen: "4222"}, "HOST:PORT"},
		"no port":       {embednats.Config{Dir: t.TempDir(), Listen: "127.0.0.1:65536"}, "65535"},
		"port taken":    {embednats.Config{Dir: t.TempDir(), Listen: addr}, "--nats-listen"},
		"no streams":    {embednats.Config{Dir: damaged}, "storage directory"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := embednats.Start(tt.cfg)
			if err == nil {
				s.Shutdown()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q doesn't mention %s", err, tt.want)
			}
		})
	}
}
