package seen_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lineOf asks whether an id is known and, after its event was stored, marks it.
type lineOf struct {
	known func(id string) bool
	mark  func(id string, sequence uint64) error
}

// BenchmarkLines compares second lines: what asking and marking costs for an
// event that is stored already, 64 at once, with the memory that each id takes
// in the process (server and client are one here) and the time until the server
// is up again after a stop. Run it with -benchtime 50000x.
func BenchmarkLines(b *testing.B) {
	for name, open := range map[string]func(*testing.B, *fixture) lineOf{
		"index": openIndex, "bucket with ttl": openBucket, "subject per id": openSubjects, "window": openWindow,
	} {
		b.Run(name, func(b *testing.B) {
			f := setup(b)
			seq := f.store("orders:_:0")
			l := open(b, f)
			before := heap()
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						id := fmt.Sprintf("orders:_:evt_1Nqm5S2eZvKYlo2C%08d", i)
						if l.known(id) {
							b.Errorf("%s is known", id)
						}
						if err := l.mark(id, seq); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/float64(b.N), "B/id")
			f.server.Stop()
			began := time.Now()
			f.server.Resume()
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-restart")
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func openIndex(b *testing.B, f *fixture) lineOf {
	x := f.index()
	return lineOf{
		known: func(id string) bool { return f.has(x, id) },
		mark: func(id string, seq uint64) error {
			x.Mark(id, seq)
			return nil
		},
	}
}

func openBucket(b *testing.B, f *fixture) lineOf {
	kv, err := f.js.CreateKeyValue(b.Context(), jetstream.KeyValueConfig{Bucket: "seen", TTL: 72 * time.Hour, Storage: jetstream.FileStorage})
	if err != nil {
		b.Fatal(err)
	}
	key := func(id string) string { return fmt.Sprintf("%x", id) } // a key takes no colon
	return lineOf{
		known: func(id string) bool {
			_, err := kv.Get(b.Context(), key(id))
			return !errors.Is(err, jetstream.ErrKeyNotFound)
		},
		mark: func(id string, _ uint64) error {
			_, err := kv.Create(b.Context(), key(id), nil)
			return err
		},
	}
}

func openSubjects(b *testing.B, f *fixture) lineOf {
	_, err := f.js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "SEEN_SUBJECTS", Subjects: []string{"seen.>"}, MaxAge: 72 * time.Hour, MaxMsgsPerSubject: 1,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	return lineOf{
		known: func(string) bool { return false }, // the write tells
		mark: func(id string, _ uint64) error {
			_, err := f.js.Publish(b.Context(), "seen."+id, nil)
			return err
		},
	}
}

// openWindow keeps ids in a stream's dedup window.
func openWindow(b *testing.B, f *fixture) lineOf {
	_, err := f.js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "SEEN_WINDOW", Subjects: []string{"seen"}, MaxAge: 72 * time.Hour, Duplicates: 72 * time.Hour,
	})
	if err != nil {
		b.Fatal(err)
	}
	return lineOf{
		known: func(string) bool { return false },
		mark: func(id string, _ uint64) error {
			m := nats.NewMsg("seen")
			m.Header.Set(jetstream.MsgIDHeader, id)
			_, err := f.js.PublishMsg(b.Context(), m)
			return err
		},
	}
}
