package sink_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/tercelhq/tercel/services/sink"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// isObject reports whether a request is to make an object with events.
func isObject(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/source=")
}

// checkOut checks that no event of a batch is said to be written.
func checkOut(t *testing.T, results []delivery.Result) {
	t.Helper()
	for i, r := range results {
		if r.Err == nil || !r.Outage || r.Duplicate {
			t.Fatalf("item %d: %+v, want an outage", i, r)
		}
	}
}

// Promise 3: what one sink could not write is written later, whatever others
// wrote before and behind it.
func TestPromise3NoSinkTakesForWrittenWhatIsNot(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	p, k := b.place("ndjson"), kind{}
	one, other := open(t, p), open(t, p)
	write(t, k, other, items(numbered(0, 5)...), 0)
	var cuts atomic.Int32
	b.set(func() { b.cut = func(r *http.Request) bool { return isObject(r) && cuts.Add(1) == 1 } })
	checkOut(t, one.Write(t.Context(), items(numbered(5, 10)...)))
	write(t, k, other, items(numbered(10, 15)...), 0)
	_ = one.Close()
	write(t, k, open(t, p), items(numbered(0, 10)...), 5)
	write(t, k, other, items(numbered(0, 20)...), 15)
	checkRows(t, b.rows(t), 20)
}

// Promise 4: what one sink has written no other writes, without being opened
// again, and however little of it came to be acknowledged.
func TestPromise4SinksKnowWhatOthersWrote(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	p, k := b.place("ndjson"), kind{}
	sinks := []sink.Writer{open(t, p), open(t, p), open(t, p)}
	for n := range 30 {
		write(t, k, sinks[n%3], items(numbered(max(0, 5*n-20), 5*n+5)...), min(5*n, 20))
	}
	checkRows(t, b.rows(t), 150)
}

// turns let the sinks' first objects into a bucket when they are told to.
type turns struct {
	came, pass [2]chan struct{}
	objects    atomic.Int32
}

func newTurns(b *bucket) *turns {
	s := &turns{}
	for i := range s.came {
		s.came[i], s.pass[i] = make(chan struct{}), make(chan struct{})
	}
	b.set(func() {
		b.cut = func(r *http.Request) bool {
			if !isObject(r) {
				return false
			}
			if n := s.objects.Add(1) - 1; int(n) < len(s.came) {
				close(s.came[n])
				select {
				case <-s.pass[n]:
				case <-r.Context().Done():
				}
			}
			return false
		}
	})
	return s
}

// Promise 4: an event that two sinks have in hand at once is in one object,
// whichever of them the store takes it from.
func TestPromise4EventInHandOfTwoSinksIsInOneObject(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][2]int{"from the first": {0, 1}, "from the second": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t)
			p, k := b.place("ndjson"), kind{}
			sinks, events := []sink.Writer{open(t, p), open(t, p)}, [][]enriched{numbered(0, 10), numbered(5, 15)}
			turns := newTurns(b)
			var ended [2]chan []delivery.Result
			for i, w := range sinks {
				ended[i] = make(chan []delivery.Result, 1)
				go func() { ended[i] <- w.Write(t.Context(), items(events[i]...)) }()
				select {
				case <-turns.came[i]: // its entry is there, and its object isn't
				case results := <-ended[i]:
					t.Fatalf("sink %d made no object: %+v", i, results)
				}
			}
			close(turns.pass[order[0]])
			for i, r := range <-ended[order[0]] {
				if r.Err != nil {
					t.Errorf("item %d: %v", i, r.Err)
				}
			}
			close(turns.pass[order[1]])
			checkOut(t, <-ended[order[1]])
			_ = sinks[order[1]].Close()
			write(t, k, open(t, p), items(events[order[1]]...), 5)
			write(t, k, sinks[order[0]], items(numbered(0, 15)...), 15)
			checkRows(t, b.rows(t), 15)
		})
	}
}

// Promises 3 and 4: however several sinks fail, and whatever they have in hand at
// the same time, what one of them said was written is there, and once.
func TestPromise4AnySinksAnyFailuresEachEventOnce(t *testing.T) {
	t.Parallel()
	const events, batches = 60, 25
	b := newBucket(t)
	var well atomic.Bool
	fails := func(r *http.Request) bool { return r.Method == http.MethodPut && !well.Load() && rand.N(8) == 0 }
	b.set(func() { b.cut = fails })
	b.proxy.ModifyResponse = func(r *http.Response) error {
		if fails(r.Request) {
			return http.ErrAbortHandler // done, but not told
		}
		return nil
	}
	p := b.place("ndjson")
	reopen := func() (w sink.Writer, err error) {
		for range 100 {
			if w, err = p.open(t.Context()); err == nil {
				break
			}
		}
		return w, err
	}
	var written sync.Map // ids that a sink said were written
	var sinks sync.WaitGroup
	for range 3 {
		sinks.Go(func() {
			w, err := reopen()
			for n := 0; n < batches && err == nil; n++ {
				from := rand.N(events - 10)
				batch := numbered(from, from+1+rand.N(10))
				results := w.Write(t.Context(), items(batch...))
				for i, r := range results {
					if r.Err == nil {
						written.Store(batch[i].Event.ID, true)
					}
				}
				if results[0].Err != nil {
					_ = w.Close()
					w, err = reopen()
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	sinks.Wait()
	well.Store(true)
	there := map[string]bool{}
	for _, r := range b.rows(t) {
		if there[r.EventID] {
			t.Errorf("%s is there twice", r.EventID)
		}
		there[r.EventID] = true
	}
	written.Range(func(id, _ any) bool {
		if !there[id.(string)] {
			t.Errorf("%s was said to be written and isn't there", id)
		}
		return true
	})
	for _, r := range open(t, p).Write(t.Context(), items(numbered(0, events)...)) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	checkRows(t, b.rows(t), events)
}

// An object may be moved away once it is there: its events stay known as far back
// as is said, also by a sink that is opened later.
func TestPromise4MovedObjectIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	p, k := b.place("ndjson"), kind{}
	w := open(t, p)
	write(t, k, w, items(numbered(0, 10)...), 0)
	for name := range b.objects(t) {
		if err := b.client.RemoveObject(t.Context(), b.name, name, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, k, w, items(numbered(5, 15)...), 5)
	_ = w.Close()
	write(t, k, open(t, p), items(numbered(0, 15)...), 15)
}

// A batch that was begun in one format is ended in it: an object is what its name
// says.
func TestObjectsAreWhatTheirNamesSay(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	var cuts atomic.Int32
	b.set(func() { b.cut = func(r *http.Request) bool { return isObject(r) && cuts.Add(1) == 1 } })
	w := open(t, b.place("ndjson"))
	checkOut(t, w.Write(t.Context(), items(numbered(0, 5)...)))
	_ = w.Close()
	write(t, kind{}, open(t, b.place("parquet")), items(numbered(0, 10)...), 0)
	checkRows(t, b.rows(t), 10) // reads each object by its name
}

// A store that overwrites objects would lose events of two sinks, so it is none.
func TestStoreThatOverwritesIsRefused(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.set(func() {
		b.cut = func(r *http.Request) bool { // what was there makes no difference to a write
			if _, name, ok := strings.Cut(r.URL.Path, b.name+"/"); ok && r.Method == http.MethodPut {
				if err := b.client.RemoveObject(r.Context(), b.name, name, minio.RemoveObjectOptions{}); err != nil {
					t.Error(err)
				}
			}
			return false
		}
	})
	if w, err := b.place("ndjson").open(t.Context()); err == nil || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("Open() = %v, %v; want an error that says what the store has to know", w, err)
	}
}
