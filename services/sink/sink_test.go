package sink_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/sink"
)

// Stopping finishes the batch in hand, which here waits for a lock.
func TestPromise5StoppingFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	p := sqlitePlace(t)
	svc := start(t, js, quick(), p.destinations(t))
	publish(t, js, nil, numbered(0, 1)...)
	settled(t, js, "out")
	heal := p.breakIt(t)
	publish(t, js, nil, numbered(1, 6)...)
	info := func() *jetstream.ConsumerInfo {
		c, err := js.Consumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable("out"))
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo()
	}
	eventually(t, "five are in hand", func() bool { return info().NumAckPending == 5 })
	ended := make(chan struct{})
	go func() { svc.stop(); close(ended) }()
	heal()
	<-ended
	checkRows(t, p.rows(t), 6)
	eventually(t, "all are acknowledged", func() bool { return info().AckFloor.Stream == 6 })
}

// What the database refuses about one event is that event's fate alone.
func TestPromise3ConstraintsOfTheDatabaseIsolateOneEvent(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	p := sqlitePlace(t)
	if err := open(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	p.refuse(t, "poison")
	publish(t, js, nil, append(append(numbered(0, 20), update("poison", "p", 1, 1)), numbered(20, 40)...)...)
	svc := start(t, js, quick(), p.destinations(t))
	settled(t, js, "out")
	checkRows(t, p.rows(t), 40)
	r := terminated(t, js)
	if r.Class != fault.Fatal || !strings.Contains(r.Message, "not this one") {
		t.Errorf("terminated for %+v", r)
	}
	// Nobody collects here: it is kept even if the advisory is lost.
	l, err := deadletter.Get(t.Context(), js, r.Letter)
	if err != nil || l.Event.ID != "poison" || l.Stage != topology.StageDeliver || l.Name != "out" {
		t.Errorf("dead letter %d: %+v, %v", r.Letter, l, err)
	}
	if err := svc.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy() = %v", err)
	}
}

// The server going away in the middle costs nothing but time.
func TestServerRestartLosesNothing(t *testing.T) {
	t.Parallel()
	server, js := stream(t)
	p := sqlitePlace(t)
	if err := open(t, p).Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, js, nil, numbered(0, 300)...)
	svc := start(t, js, quick(), p.destinations(t))
	eventually(t, "something is written", func() bool { return len(p.rows(t)) > 0 })
	server.Stop()
	eventually(t, "the service says that it is away", func() bool {
		err := svc.Healthy(t.Context())
		return err != nil && strings.Contains(err.Error(), "nats")
	})
	server.Resume()
	eventually(t, "publishing works again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := update("evt-300", "300", 1, 1).message()
		_, err := js.PublishMsg(ctx, m, jetstream.WithMsgID("last"))
		return err == nil
	})
	settled(t, js, "out")
	checkRows(t, p.rows(t), 301)
}

func TestNewReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, js := stream(t)
	file := func(path string) pipeline.Destination {
		return pipeline.Destination{SQLite: &pipeline.SQLite{Path: path}}
	}
	tests := map[string]struct {
		destinations map[string]pipeline.Destination
		want         []string
	}{
		"none":     {nil, []string{"no destinations"}},
		"no kind":  {map[string]pipeline.Destination{"a": {}, "b": {}}, []string{"destination a: want exactly one", "destination b: want exactly one"}},
		"no path":  {map[string]pipeline.Destination{"a": file("")}, []string{"sqlite.path: missing"}},
		"no dir":   {map[string]pipeline.Destination{"a": {Files: &pipeline.Files{}}}, []string{"files.dir: missing"}},
		"bad name": {map[string]pipeline.Destination{"A b": file("x")}, []string{"want a name"}},
		"two to one file": {
			map[string]pipeline.Destination{"a": file("x.db"), "b": file("./x.db")},
			[]string{"destination b: a writes to"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sink.New(sink.Config{Config: quick(), Destinations: tt.destinations}, sink.Deps{JetStream: js, Log: quiet})
			if err == nil {
				t.Fatal("New() = nil")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %v, want %q in it", err, want)
				}
			}
		})
	}
	cfg := quick()
	cfg.Batch = 0
	if _, err := sink.New(sink.Config{Config: cfg, Destinations: map[string]pipeline.Destination{"a": file("x")}},
		sink.Deps{JetStream: js, Log: quiet}); err == nil || !strings.Contains(err.Error(), "batch") {
		t.Errorf("New() without a batch = %v", err)
	}
}
