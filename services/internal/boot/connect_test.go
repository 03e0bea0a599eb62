package boot_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(time.Minute); !ok(); {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestConnectWaitsForAServerThatIsAwayAndSaysSo(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, false)
	url := srv.URL()
	srv.Stop()
	log := &lines{}
	nc, err := boot.Connect(pipeline.NATS{URL: url}, "test", boot.NewLogger(log, "info"))
	if err != nil {
		t.Fatalf("Connect() with the server away = %v, want a connection that waits", err)
	}
	defer nc.Close()
	eventually(t, "the log says that the server is away", func() bool { return strings.Contains(log.String(), "nats not reached") })
	srv.Resume()
	eventually(t, "connected, and the log says so", func() bool {
		return nc.IsConnected() && strings.Contains(log.String(), "nats connected")
	})
	if n := strings.Count(log.String(), "nats not reached"); n != 1 {
		t.Errorf("%d lines say that the server is away, want one for many attempts:\n%s", n, log)
	}
}

// A token that is refused several times may be the right one soon.
func TestConnectOutlivesRefusedCredentials(t *testing.T) {
	t.Parallel()
	const token = "the right token"
	srv := natstest.Start(t, false)
	srv.Stop()
	srv.RequireToken(token)
	srv.Resume()
	log := &lines{}
	var asked atomic.Int32
	nc, err := boot.Connect(pipeline.NATS{URL: srv.URL()}, "test", boot.NewLogger(log, "info"), nats.TokenHandler(func() string {
		if asked.Add(1) < 5 {
			return "another"
		}
		return token
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	eventually(t, "connected with the right token", nc.IsConnected)
	if !strings.Contains(log.String(), "Authorization") || strings.Contains(log.String(), token) {
		t.Errorf("want a refusal in the log, and no token:\n%s", log)
	}
}

func TestAnAddressThatIsNoURLIsNotQuoted(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"nats://plant ed@127.0.0.1:4222", "nats://u:planted%zz@127.0.0.1:4222", "nats://u:planted/x@127.0.0.1:4222",
		"nats://127.0.0.1:4222,nats://u:planted^[@x",
	} {
		nc, err := boot.Connect(pipeline.NATS{URL: url}, "test", slog.New(slog.DiscardHandler))
		if err == nil {
			nc.Close()
			t.Errorf("Connect(%q) = nil, want an error", url)
		} else if strings.Contains(err.Error(), "plant") || !strings.Contains(err.Error(), "nats://HOST:PORT") {
			t.Errorf("Connect(%q) = %v, want what was wanted and nothing of the password", url, err)
		}
	}
}

// Before NATS is there, a service is alive, not ready, and says what it waits
// for; afterwards it is built.
func TestAServiceStartsWhenNATSDoes(t *testing.T) {
	srv := natstest.Start(t, false)
	file := pipeline.Default()
	file.NATS.URL = srv.URL()
	srv.Stop()
	svc := &fake{}
	url, stop, ended := start(t, map[string]boot.Service{
		"test": boot.NewStarter("test", file, slog.New(slog.DiscardHandler), func(boot.Env) (boot.Service, error) { return svc, nil }),
	})
	if code, _ := get(t, url+"/livez"); code != http.StatusOK {
		t.Errorf("/livez without nats = %d, want 200", code)
	}
	eventually(t, "/readyz says that nats is away", func() bool {
		code, body := get(t, url+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "nats not reached")
	})
	srv.Resume()
	eventually(t, "/readyz is 200", func() bool { code, _ := get(t, url+"/readyz"); return code == http.StatusOK })
	stop()
	if err := <-ended; err != nil || !svc.stopped.Load() {
		t.Errorf("Run() = %v, stopped %t; want a clean stop", err, svc.stopped.Load())
	}
}

// However long NATS is away, the service waits for it.
func TestAServiceStartsWhenNATSWasAwayForLong(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, false)
	file := pipeline.Default()
	file.NATS.URL = srv.URL()
	srv.Stop()
	log, built := &lines{}, make(chan struct{})
	svc := boot.NewImpatientStarter("test", file, boot.NewLogger(log, "info"), func(boot.Env) (boot.Service, error) {
		close(built)
		return &fake{}, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	eventually(t, "it was given up several times to set the streams up", func() bool {
		return strings.Count(log.String(), "streams not set up; trying on") > 2
	})
	srv.Resume()
	select {
	case <-built:
	case err := <-ended:
		t.Fatalf("Run() = %v, want it to wait", err)
	case <-time.After(time.Minute):
		t.Fatal("not built within a minute of the server's return")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

// What waiting doesn't mend ends the process.
func TestAServiceEndsWhenItsStreamsAreRefused(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, false)
	js, err := jetstream.New(srv.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	file := pipeline.Default()
	file.NATS.URL = srv.URL()
	streams := topology.Streams(file.Streams)
	raw := streams[len(streams)-1]
	raw.Storage = jetstream.MemoryStorage
	if _, err := js.CreateStream(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	svc := boot.NewStarter("test", file, slog.New(slog.DiscardHandler), func(boot.Env) (boot.Service, error) {
		t.Error("built without its streams")
		return &fake{}, nil
	})
	if err := svc.Run(t.Context()); !errors.Is(err, topology.ErrDestructive) {
		t.Errorf("Run() = %v, want %v", err, topology.ErrDestructive)
	}
}

// A server that loses its power, or a network that drops what it is sent, never
// says that a connection has ended. The client finds out within seconds, and
// isn't locked up meanwhile, however much there is to be sent.
func TestConnectNoticesSilence(t *testing.T) {
	t.Parallel()
	for name, megabytes := range map[string]int{"idle": 0, "busy": 64} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, strings.TrimPrefix(natstest.Start(t, false).URL(), "nats://"))
			nc, err := boot.Connect(pipeline.NATS{URL: "nats://" + l.Addr()}, "test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			eventually(t, "connected", nc.IsConnected)
			l.Hold()
			held := time.Now()
			payload := make([]byte, 512<<10)
			for range 2 * megabytes {
				if nc.Publish("anything", payload) != nil {
					break
				}
			}
			eventually(t, "the client knows that the connection is lost", func() bool { return !nc.IsConnected() })
			if took := time.Since(held); took > 50*time.Second { // by default it is a minute where much is sent, else four to six
				t.Errorf("the client knew after %s", took)
			}
			l.Mend()
			eventually(t, "connected again", func() bool { return nc.FlushTimeout(5*time.Second) == nil })
		})
	}
}

func TestAServiceStopsWhileItWaitsForNATS(t *testing.T) {
	file := pipeline.Default()
	file.NATS.URL = "nats://127.0.0.1:1"
	url, stop, ended := start(t, map[string]boot.Service{
		"test": boot.NewStarter("test", file, slog.New(slog.DiscardHandler), func(boot.Env) (boot.Service, error) {
			t.Error("built without nats")
			return &fake{}, nil
		}),
	})
	eventually(t, "/readyz says that nats is away", func() bool {
		_, body := get(t, url+"/readyz")
		return strings.Contains(body, "nats not reached")
	})
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil: it was told to stop", err)
	}
}
