package sink_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
)

// The stream lets go of what it has kept for its time, delivered or not. What
// waits longer than it may for a destination that can't be opened is kept as a
// dead letter before; the rest is delivered once it opens.
func TestPromise3EventsOfADestinationThatCannotBeOpenedBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, js := stream(t)
			p := k.place(t)
			if err := open(t, p).Close(); err != nil { // it has been there before
				t.Fatal(err)
			}
			heal := p.breakIt(t)
			publish(t, js, nil, numbered(0, 10)...)
			cfg := quick()
			cfg.GiveUpAfter, cfg.Timeout = 500*time.Millisecond, 2*time.Second
			svc := start(t, js, cfg, p.destinations(t))
			settled(t, js, "out")
			svc.stop()
			letters := 0
			for l, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
				if err != nil {
					t.Fatal(err)
				}
				if letters++; l.Stage != topology.StageDeliver || l.Name != "out" || !strings.Contains(l.Reason.Message, "deliver to out: ") {
					t.Errorf("letter of %s %s for %q", l.Stage, l.Name, l.Reason.Message)
				}
			}
			if letters != 10 {
				t.Errorf("%d dead letters, want 10", letters)
			}

			cfg.GiveUpAfter = time.Minute
			publish(t, js, nil, numbered(10, 15)...)
			svc = start(t, js, cfg, p.destinations(t))
			eventually(t, "it can't be opened", func() bool {
				err := svc.Healthy(t.Context())
				return err != nil && !strings.Contains(err.Error(), "not open")
			})
			heal()
			settled(t, js, "out")
			if got := len(k.events(t, p)); got != 5 {
				t.Errorf("%d events there, want the 5 that waited no longer than they may", got)
			}
		})
	}
}

// Nor does it take a sink that stays up: one that is started anew again and again,
// before it has waited for long, makes the letters before the stream lets go of the
// events, and not long before, since the destination may be there any moment.
func TestPromise3EventsBecomeDeadLettersThoughTheSinkIsRestartedAllTheTime(t *testing.T) {
	t.Parallel()
	_, js := streamOf(t, func(c *topology.Config) { c.Enriched.MaxAge, c.DedupWindow = 30*time.Second, 30*time.Second })
	p := kinds["nats"].place(t)
	if err := open(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	p.breakIt(t)
	began := time.Now()
	publish(t, js, nil, numbered(0, 10)...)
	cfg := quick()
	cfg.GiveUpAfter, cfg.RetryMin, cfg.RetryMax = 18*time.Second, 200*time.Millisecond, 5*time.Second
	letters := func() (n int) {
		for _, err := range deadletter.List(t.Context(), js, deadletter.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	for letters() < 10 {
		svc := start(t, js, cfg, p.destinations(t))
		life := time.NewTimer(cfg.GiveUpAfter / 18)
		<-life.C
		svc.stop()
		if time.Since(began) > time.Minute {
			t.Fatalf("%d dead letters of 10 events that are gone", letters())
		}
	}
	if after := time.Since(began); after < 20*time.Second {
		t.Errorf("dead letters after %s, want them 10s before the stream lets go of the events, after 20s", after)
	}
}

// A sink that waits for a folder which another process writes to leaves it the
// events, however old they are.
func TestPromise3WaitingForAFolderMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	p := filesPlace(t)
	other := open(t, p)
	publish(t, js, nil, numbered(0, 10)...)
	cfg := quick()
	cfg.GiveUpAfter = 100 * time.Millisecond
	svc := start(t, js, cfg, p.destinations(t))
	wait := time.NewTimer(2 * time.Second) // many times what an event may wait
	defer wait.Stop()
	<-wait.C
	if err := svc.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "another process writes to it") {
		t.Errorf("Healthy() = %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	settled(t, js, "out")
	checkRows(t, p.rows(t), 10)
}
