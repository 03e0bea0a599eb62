package run_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// loseLease makes the lease run out while its holder still takes it for its own.
func (f *fixture) loseLease() {
	f.t.Helper()
	leases, err := f.js.KeyValue(f.t.Context(), topology.BucketLeases)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := leases.Purge(f.t.Context(), "reconcile.orders._.order"); err != nil {
		f.t.Fatal(err)
	}
}

// hold keeps the first request of a page in the shop until it is let go, and
// says when it is there.
func (s *shop) hold(page string) (there, letGo chan struct{}) {
	there, letGo = make(chan struct{}), make(chan struct{})
	held := false // one request comes after the other
	s.troubled(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("cursor") == page && !held {
			held = true
			close(there)
			<-letGo
		}
		return false
	})
	return there, letGo
}

// Promise 6, fencing: a runner that waits for the source while its lease runs
// out and another does the whole window writes neither cursor nor report, not
// even if it doesn't know of it.
func TestRunnerThatWasOvertakenWritesNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ page string }{
		"waiting for the first page": {""},
		"waiting for the last page":  {"at 4"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			for i := range 5 {
				f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
			}
			there, letGo := f.shop.hold(tt.page)
			old, ended := f.begin(f.runner(ascending)), make(chan error, 1)
			go func() { ended <- old.Do() }()
			<-there
			f.loseLease()
			f.pass(time.Minute)
			rep := f.do(f.runner(ascending))
			f.pass(time.Hour)
			f.do(f.runner(ascending)) // and the next window
			want := f.cursor()
			close(letGo)
			if err := <-ended; !errors.Is(err, cursor.ErrConflict) {
				t.Errorf("Do() of the old runner = %v, want ErrConflict", err)
			}
			if got := f.cursor(); !reflect.DeepEqual(got, want) {
				t.Errorf("cursor %+v, want %+v", got, want)
			}
			if n := len(f.reports()); n != 2 || rep.Listed != 5 || rep.Run != old.ID() {
				t.Errorf("%d reports, the first %+v; want the other runner's alone", n, rep)
			}
		})
	}
}

// slowReports publishes reports only once it is let go.
type slowReports struct {
	jetstream.JetStream
	there chan struct{}
	letGo chan struct{}
}

func (s slowReports) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if strings.HasPrefix(m.Subject, topology.PrefixReports) {
		close(s.there)
		select {
		case <-s.letGo:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.JetStream.PublishMsg(ctx, m, opts...)
}

// A run that has moved the cursor has a report, once, whatever becomes of its
// runner between the two.
func TestReportOfARunThatDiesIsPublishedByTheNext(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"it dies": true, "it is overtaken": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.enrich()
			f.shop.put("a", noon.Add(-time.Hour))
			fast := f.js
			slow := slowReports{fast, make(chan struct{}), make(chan struct{})}
			f.js = slow
			r := f.runner(ascending)
			f.js = fast
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			old, err := r.Begin(ctx, run.Options{Trigger: report.Schedule})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- old.Do() }()
			<-slow.there
			if c := f.cursor(); c.Report == nil || c.Report.Run != old.ID() || len(f.reports()) != 0 {
				t.Fatalf("cursor %+v and %d reports, want the report in the cursor alone", c.Cursor, len(f.reports()))
			}
			if dies {
				cancel()
				<-ended
			} else {
				f.loseLease()
			}
			f.pass(time.Minute)
			other := f.runner(ascending)
			if due, err := other.Due(t.Context()); err != nil || due.After(f.clock()) {
				t.Errorf("Due() = %s, %v, want now", due, err)
			}
			f.do(other)
			want := f.cursor()
			close(slow.letGo)
			if !dies {
				if err := <-ended; !errors.Is(err, cursor.ErrConflict) {
					t.Errorf("Do() of the old runner = %v, want ErrConflict", err)
				}
			}
			if got := f.cursor(); !reflect.DeepEqual(got, want) || got.Report != nil {
				t.Errorf("cursor %+v, want %+v", got, want)
			}
			if reports := f.reports(); len(reports) != 2 || reports[0].Run != old.ID() || reports[0].Missed != 1 {
				t.Errorf("reports %+v, want two, the first of the old run", reports)
			}
		})
	}
}

// pausedEnv has the server's and the shop's addresses for a runner in a process
// of its own.
const pausedEnv = "TERCEL_TEST_PAUSED_RUNNER"

// Fencing, with a process that is stopped as a machine stops one: its lease runs
// out by the server's clock while it waits for the source, another runner does
// the window, and then it goes on.
func TestStoppedProcessWritesNothing(t *testing.T) {
	t.Parallel()
	if addresses := os.Getenv(pausedEnv); addresses != "" {
		pausedRunner(t, addresses)
		return
	}
	f := setup(t)
	for i := range 3 {
		f.shop.put(fmt.Sprint("o", i), noon.Add(-time.Hour+time.Duration(i)*time.Minute))
	}
	there, letGo := f.shop.hold("at 2")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStoppedProcessWritesNothing$", "-test.v")
	child.Env = append(os.Environ(), pausedEnv+"="+f.nc.ConnectedUrl()+" "+f.base)
	var said strings.Builder
	child.Stdout, child.Stderr = &said, &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill() }()
	select {
	case <-there:
	case <-time.After(time.Minute):
		_ = child.Process.Kill()
		t.Fatalf("the other process asks for nothing: %v\n%s", child.Wait(), said.String())
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	other := f.runner(ascending)
	var begun *run.Run
	for end := time.Now().Add(time.Minute); begun == nil; <-time.After(50 * time.Millisecond) {
		var err error
		begun, err = other.Begin(t.Context(), run.Options{Trigger: report.Schedule})
		if err != nil && (!errors.Is(err, cursor.ErrHeld) || time.Now().After(end)) {
			t.Fatalf("Begin() = %v, want it once the lease has run out", err)
		}
	}
	if err := begun.Do(); err != nil {
		t.Fatal(err)
	}
	rep, want := f.report(begun.ID()), f.cursor()
	if rep.Listed != 3 || !rep.Complete {
		t.Fatalf("report %+v", rep)
	}
	close(letGo)
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil || !strings.Contains(said.String(), "run "+begun.ID()+" was taken over") {
		t.Errorf("the stopped runner: %v\n%s", err, said.String())
	}
	if got := f.cursor(); !reflect.DeepEqual(got, want) {
		t.Errorf("cursor %+v, want %+v", got, want)
	}
	if n := len(f.reports()); n != 1 {
		t.Errorf("%d reports, want the other runner's alone", n)
	}
}

// pausedRunner makes a run that must be taken over.
func pausedRunner(t *testing.T, addresses string) {
	server, base, _ := strings.Cut(addresses, " ")
	nc, err := nats.Connect(server, nats.Timeout(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	f := &fixture{t: t, nc: nc, base: base, now: noon, catchUp: 200 * time.Millisecond, ttl: 3 * time.Second}
	if f.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	p, err := publish.New(nc, publish.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f.pub = p
	if f.met, err = run.NewMetrics(f.clock); err != nil {
		t.Fatal(err)
	}
	begun := f.begin(f.runner(ascending))
	if err := begun.Do(); !errors.Is(err, cursor.ErrConflict) && !errors.Is(err, cursor.ErrLost) {
		t.Fatalf("Do() = %v, want it taken over", err)
	}
	fmt.Println("run", begun.ID(), "was taken over")
}
