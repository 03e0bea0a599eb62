package timeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

func places(f timeline.Found) []string {
	got := []string{}
	for _, m := range f.Messages {
		got = append(got, fmt.Sprint(m.Stream, " ", m.Sequence))
	}
	return got
}

func TestIdsOfEveryKindAreFound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := trigger("evt-a")
	a.DeliveryID = "delivery-a"
	w.send(a)
	w.enrich(enriched(a, "7", "1"))
	several := enriched(a, "8", "1")
	several.ID += "#8"
	w.enrich(several)
	other := enriched(trigger("evt-a"), "7", "9")
	other.Source, other.DeliveryID = "shop", ""
	w.enrich(other)
	x, _ := w.start(timeline.Config{})
	tests := map[string]struct {
		query timeline.Query
		want  []string
	}{
		"by event, those of each of its records too": {
			timeline.Query{ID: "evt-a", Source: "orders"}, []string{"TERCEL_RAW 1", "TERCEL_ENRICHED 1", "TERCEL_ENRICHED 2"},
		},
		"by delivery":                {timeline.Query{ID: "delivery-a"}, []string{"TERCEL_RAW 1", "TERCEL_ENRICHED 1", "TERCEL_ENRICHED 2"}},
		"by record, of every source": {timeline.Query{ID: "7"}, []string{"TERCEL_ENRICHED 1", "TERCEL_ENRICHED 3"}},
		"by record of one source":    {timeline.Query{ID: "7", Source: "shop"}, []string{"TERCEL_ENRICHED 3"}},
		"of another account":         {timeline.Query{ID: "7", Account: "north"}, []string{}},
		"of another resource":        {timeline.Query{ID: "7", Resource: "customer"}, []string{}},
		"as what it isn't":           {timeline.Query{ID: "7", By: timeline.ByEvent}, []string{}},
		"of nothing":                 {timeline.Query{ID: "evt-b"}, []string{}},
	}
	for name, tt := range tests {
		if got := w.find(x, tt.query); !slices.Equal(got, tt.want) {
			t.Errorf("%s: found %v, want %v", name, got, tt.want)
		}
	}
}

// What was stored before the question is found, without waiting for a clock.
func TestWhatWasJustStoredIsFound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x, _ := w.start(timeline.Config{})
	for i := range 20 {
		id := fmt.Sprint("evt-", i)
		w.send(trigger(id))
		var f timeline.Found
		w.until(id+" is found", func() bool {
			var err error
			if f, err = x.Find(t.Context(), timeline.Query{ID: id}); err != nil {
				t.Fatal(err)
			}
			return len(f.Messages) == 1 || !behind(f.Coverage) // else the machine is busy, and it says so
		})
		if len(f.Messages) != 1 {
			t.Fatalf("%s isn't found by an index that says that it is not behind: %+v", id, f.Coverage)
		}
	}
}

func behind(all []timeline.Coverage) bool {
	return slices.ContainsFunc(all, timeline.Coverage.Behind)
}

// An index that hasn't read a stream says so, and not that there is nothing.
func TestAnIndexThatIsBehindSaysSo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.send(trigger("evt-1"))
	x := w.index(timeline.Config{}) // which reads nothing
	tl := w.trace(x, timeline.Query{ID: "evt-1"})
	i := slices.IndexFunc(tl.Coverage, timeline.Coverage.Behind)
	if !tl.Behind() || len(tl.Events) != 0 || i < 0 || tl.Coverage[i].Stream != topology.StreamRaw || tl.Coverage[i].Last != 1 {
		t.Errorf("timeline of an index without a message: %+v, want it behind in TERCEL_RAW", tl)
	}
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tl = w.trace(x, timeline.Query{ID: "evt-1"}); tl.Behind() || len(tl.Events) != 1 {
		t.Errorf("after Fill: %+v, want one event and nothing behind", tl)
	}
}

// A restart goes on where the last one was: here the stream can't give the first
// messages a second time.
func TestARestartReadsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := timeline.Config{Dir: filepath.Join(t.TempDir(), "index")}
	w.send(trigger("evt-1"))
	w.send(trigger("evt-2"))
	x, stop := w.start(cfg)
	w.until("both are indexed", func() bool { return len(w.find(x, timeline.Query{ID: "evt-2"})) == 1 })
	stop()
	stream, err := w.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	w.send(trigger("evt-3"))
	x, stop = w.start(cfg)
	w.until("the third is indexed", func() bool { return len(w.find(x, timeline.Query{ID: "evt-3"})) == 1 })
	if got := w.find(x, timeline.Query{ID: "evt-1"}); !slices.Equal(got, []string{"TERCEL_RAW 1"}) {
		t.Errorf("what an earlier process has indexed: %v, want it found", got)
	}
	if got := w.find(x, timeline.Query{ID: "evt-2"}); len(got) != 0 {
		t.Errorf("a message that is gone: found %v", got)
	}
	stop()
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "TERCEL_RAW-*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v (%v), want the one that is gone on with", files, err)
	}
}

// A folder of a stream that was made anew, or that is damaged, is of no use.
func TestAFolderOfAnotherStreamIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*world, string){
		"made anew": func(w *world, file string) {
			if err := w.js.DeleteStream(w.Context(), topology.StreamRaw); err != nil {
				w.Fatal(err)
			}
			w.until("the stream is made anew", func() bool {
				return topology.Ensure(w.Context(), w.js, topology.DefaultConfig()) == nil
			})
			w.send(trigger("evt-0")) // in the old one's place
			w.send(trigger("evt-1"))
			x, stop := w.start(timeline.Config{Dir: filepath.Dir(file)})
			w.until("the first is found too", func() bool { return len(w.find(x, timeline.Query{ID: "evt-0"})) == 1 })
			stop()
		},
		"cut": func(w *world, file string) {
			if err := os.Truncate(file, 45); err != nil {
				w.Fatal(err)
			}
		},
		"something else": func(w *world, file string) {
			if err := os.WriteFile(file, []byte("no index"), 0o600); err != nil {
				w.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			cfg := timeline.Config{Dir: t.TempDir()}
			w.send(trigger("evt-1"))
			x, stop := w.start(cfg)
			w.until("it is indexed", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 1 })
			stop()
			files, err := filepath.Glob(filepath.Join(cfg.Dir, "TERCEL_RAW-*"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %v (%v), want one", files, err)
			}
			spoil(w, files[0])
			x, _ = w.start(cfg)
			w.until("it is found again", func() bool { return len(w.find(x, timeline.Query{ID: "evt-1"})) == 1 })
		})
	}
}

// Of files that are missing only what they had is read again, and all is found,
// whichever file it is in.
func TestAMissingFileIsReadAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := timeline.Config{Dir: t.TempDir()}
	const n = 50
	for i := range n {
		w.send(trigger(fmt.Sprint("evt-", i)))
	}
	_, stop := w.start(cfg)
	w.until("there are several files", func() bool { return len(w.files(cfg)) > 4 })
	stop()
	files := w.files(cfg)
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	x, _ := w.start(cfg)
	for i := range n {
		id := fmt.Sprint("evt-", i)
		w.until(id+" is found", func() bool { return len(w.find(x, timeline.Query{ID: id})) == 1 })
	}
	if memory, disk := x.Size(); memory > 4096 || disk == 0 {
		t.Errorf("the index takes %d bytes of memory and %d of the folder, want the latter above all", memory, disk)
	}
}

// files are those of the triggers' index.
func (w *world) files(cfg timeline.Config) []string {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "TERCEL_RAW-*.index"))
	if err != nil {
		w.Fatal(err)
	}
	return files
}

// What has left the stream leaves the index, and its folder.
func TestTheIndexForgetsWithItsStreams(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := timeline.Config{Dir: t.TempDir()}
	for i := range 10 {
		w.send(trigger(fmt.Sprint("evt-", i)))
	}
	x, stop := w.start(cfg)
	w.until("all are indexed", func() bool { return len(w.find(x, timeline.Query{ID: "evt-9"})) == 1 })
	if memory, disk := x.Size(); memory == 0 || disk == 0 {
		t.Errorf("Size() = %d, %d, want both", memory, disk)
	}
	stop()
	stream, err := w.js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	x, stop = w.start(cfg)
	w.until("the index has looked", func() bool {
		f, err := x.Find(t.Context(), timeline.Query{ID: "evt-1"})
		return err == nil && !behind(f.Coverage) && len(f.Messages) == 0
	})
	stop()
	if files, err := filepath.Glob(filepath.Join(cfg.Dir, "TERCEL_RAW-*")); err != nil || len(files) > 0 {
		t.Errorf("files %v (%v), want none of messages that are gone", files, err)
	}
}

// Many messages of one record are not all read.
func TestTheNewestAreFoundFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 205 {
		w.enrich(enriched(trigger(fmt.Sprint("evt-", i)), "7", fmt.Sprint(i)))
	}
	x := w.index(timeline.Config{})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := x.Find(t.Context(), timeline.Query{ID: "7"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Messages); n != 200 || !f.More || f.Messages[0].Sequence != 6 || f.Messages[199].Sequence != 205 {
		t.Errorf("%d messages, more %t; want the newest 200 and more", n, f.More)
	}
	tl := w.trace(x, timeline.Query{ID: "7", Events: 3})
	if len(tl.Events) != 3 || !tl.More || tl.Events[2].ID != "evt-204" {
		t.Errorf("%d events, more %t, %+v; want the newest three", len(tl.Events), tl.More, tl.Events)
	}
}

func TestAnIndexNeedsAFolderThatCanBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var js jetstream.JetStream
	if _, err := timeline.New(timeline.Config{}, timeline.Deps{JetStream: js}); err == nil {
		t.Error("New() without JetStream gave no error")
	}
	w := setup(t)
	if _, err := timeline.New(timeline.Config{Dir: file}, timeline.Deps{JetStream: w.js}); err == nil {
		t.Error("New() with a file for a folder gave no error")
	}
	_, err := w.index(timeline.Config{}).Trace(t.Context(), timeline.Query{})
	if err == nil {
		t.Error("Trace() of no id gave no error")
	}
}

// Of another source nothing is read.
func TestAnIndexOfOneSource(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a, b := trigger("evt-1"), trigger("evt-1")
	b.Source = "shop"
	w.send(a)
	w.send(b)
	x := w.index(timeline.Config{Source: "orders"})
	if err := x.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := x.Find(t.Context(), timeline.Query{ID: "evt-1"})
	if err != nil || behind(f.Coverage) || len(f.Messages) != 1 || f.Messages[0].Event.Source != "orders" {
		t.Errorf("found %+v, %v; want the message of orders alone", f, err)
	}
	if _, err := time.Parse(time.RFC3339, f.Messages[0].Header.Get(event.HeaderReceivedAt)); err != nil {
		t.Errorf("the message's headers: %v", err)
	}
}

// An index whose stream is gone ends as soon as it is told to.
func TestAnIndexWithoutItsStreamEnds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.send(trigger("evt-a"))
	told := make(lines, 100)
	x, err := timeline.New(timeline.Config{}, timeline.Deps{JetStream: w.js, Log: slog.New(slog.NewTextHandler(told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	if got := w.find(x, timeline.Query{ID: "evt-a"}); len(got) == 0 {
		t.Fatal("the stream is not followed")
	}
	if err := w.js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told: // that the stream can't be followed
	case <-time.After(time.Minute):
		t.Error("not said within a minute that the stream can't be followed")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("still running a minute after it was told to end")
	}
}

// That a stream can't be followed is said each time that it is lost.
func TestEachLossOfAStreamIsSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	told := make(lines, 100)
	x, err := timeline.New(timeline.Config{}, timeline.Deps{JetStream: w.js, Log: slog.New(slog.NewTextHandler(told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	for i := range 2 {
		w.until("the stream is there", func() bool { return topology.Ensure(t.Context(), w.js, topology.DefaultConfig()) == nil })
		id := fmt.Sprint("evt-", i)
		w.send(trigger(id))
		w.until(id+" is found", func() bool { return len(w.find(x, timeline.Query{ID: id})) == 1 })
		for len(told) > 0 {
			<-told
		}
		if err := w.js.DeleteStream(t.Context(), topology.StreamRaw); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Fatalf("loss %d was not said within a minute", i+1)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

// lines is a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}
