package sink_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
)

// parquetRows reads an object as any reader of Parquet would, by its columns.
func parquetRows(t *testing.T, content []byte) []row {
	t.Helper()
	type columns struct {
		EventID    string  `parquet:"event_id"`
		Source     string  `parquet:"source"`
		Account    string  `parquet:"account"`
		Type       string  `parquet:"type"`
		Resource   *string `parquet:"resource"`
		RecordID   *string `parquet:"record_id"`
		Version    *string `parquet:"version"`
		Origin     string  `parquet:"origin"`
		Deleted    bool    `parquet:"deleted"`
		EventTime  *string `parquet:"event_time"`
		ReceivedAt *string `parquet:"received_at"`
		ObservedAt *string `parquet:"observed_at"`
		WrittenAt  string  `parquet:"written_at"`
		Sequence   uint64  `parquet:"sequence"`
		Trigger    *string `parquet:"trigger"`
		Record     *string `parquet:"record"`
		Related    *string `parquet:"related"`
	}
	read, err := parquet.Read[columns](bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	value := func(s *string) jsontext.Value {
		if s == nil {
			return nil
		}
		return jsontext.Value(*s)
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	var rows []row
	for _, c := range read {
		rows = append(rows, row{
			EventID: c.EventID, Source: c.Source, Account: c.Account, Type: c.Type, Resource: text(c.Resource), RecordID: text(c.RecordID),
			Version: text(c.Version), Origin: c.Origin, Deleted: c.Deleted, EventTime: text(c.EventTime), ReceivedAt: text(c.ReceivedAt),
			ObservedAt: text(c.ObservedAt), WrittenAt: c.WrittenAt, Sequence: c.Sequence, Trigger: value(c.Trigger),
			Record: value(c.Record), Related: value(c.Related),
		})
	}
	return rows
}

// Parquet has the same events as NDJSON, whatever happens.
func TestParquetConforms(t *testing.T) {
	t.Parallel()
	k := kind{place: func(t *testing.T) *place { return newBucket(t).place("parquet") }}
	for _, test := range []func(*testing.T, kind){storesEveryPart, absorbsDuplicates, survivesRestart, deliversOnce} {
		test(t, k)
	}
}

// The names of objects are their partitions and what they hold.
func TestObjectsArePartitioned(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	k := kind{}
	other := update("b", "1", 1, 1)
	other.Event.Type = "order paid"
	write(t, k, open(t, b.place("ndjson")), items(update("a", "1", 1, 1), other, update("c", "2", 1, 1)), 0)
	var names []string
	for name := range b.objects(t) {
		names = append(names, name)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{
		"events/source=orders/type=order.updated/date=2026-03-01/00000000000000000001-00000000000000000003-",
		"events/source=orders/type=order%20paid/date=2026-03-01/00000000000000000002-00000000000000000002-",
	} {
		if !strings.Contains(all, want) || len(names) != 2 {
			t.Errorf("objects %v, want one beginning with %s", names, want)
		}
	}
}

// A store that keeps objects as files takes no longer names than those have.
func TestObjectsOfLongTypesHaveNamesOfFiles(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	one, other := update("a", "1", 1, 1), update("b", "1", 1, 1)
	one.Event.Type, other.Event.Type = strings.Repeat("\u8a9e", 28), strings.Repeat("\u8a9e", 27)+"\u8a9f" // nine bytes each where they are escaped
	write(t, kind{}, open(t, b.place("ndjson")), items(one, other), 0)
	names := slices.Collect(maps.Keys(b.objects(t)))
	if len(names) != 2 {
		t.Errorf("objects %v, want one for each type", names)
	}
	for _, name := range names {
		for _, part := range strings.Split(name, "/") {
			if len(part) > 255 {
				t.Errorf("%d bytes in %s", len(part), name)
			}
		}
	}
}

// Promise 4: however a batch breaks off, and however its events come again, each
// is in exactly one object.
func TestPromise4EachEventIsInOneObject(t *testing.T) {
	t.Parallel()
	isPut := func(r *http.Request, part string) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, part)
	}
	for name, part := range map[string]string{
		"in the middle of the journal":      "_tercel",
		"in the middle of the first object": "order.updated",
		"in the middle of a later one":      "order.paid",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t)
			p, k := b.place("ndjson"), kind{}
			var events []enriched
			for i, e := range numbered(0, 40) {
				if i%2 == 1 {
					e.Event.Type = "order.paid"
				}
				events = append(events, e)
			}
			w := open(t, p)
			var cuts atomic.Int32
			b.set(func() { b.cut = func(r *http.Request) bool { return isPut(r, part) && cuts.Add(1) == 1 } })
			checkOutage := w.Write(t.Context(), items(events[:30]...))
			for _, r := range checkOutage {
				if r.Err == nil || !r.Outage {
					t.Fatalf("Write() = %+v, want an outage", r)
				}
			}
			// Nothing more is written until it is known what is there.
			for _, r := range w.Write(t.Context(), items(events[30:]...)) {
				if r.Err == nil {
					t.Error("written although it isn't known what is there")
				}
			}
			_ = w.Close()
			w = open(t, p) // as after a crash
			for _, batch := range [][]enriched{events[5:35], events[:20], events} {
				for _, r := range w.Write(t.Context(), items(batch...)) {
					if r.Err != nil {
						t.Error(r.Err)
					}
				}
			}
			write(t, k, w, items(events...), len(events))
			checkRows(t, b.rows(t), 40)
			if cuts.Load() == 0 {
				t.Error("nothing was broken off")
			}
		})
	}
}

// An object that an answer never told of is there once: its name is taken.
func TestPromise4UnansweredObjectIsNotWrittenTwice(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	p := b.place("ndjson")
	w := open(t, p)
	var cuts atomic.Int32
	through := b.proxy.ModifyResponse
	b.proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == http.MethodPut && strings.Contains(r.Request.URL.Path, "order.updated") && cuts.Add(1) == 1 {
			return http.ErrAbortHandler // written, but not told
		}
		if through != nil {
			return through(r)
		}
		return nil
	}
	if r := w.Write(t.Context(), items(numbered(0, 10)...)); r[0].Err == nil {
		t.Fatal("the answer was to be lost")
	}
	_ = w.Close()
	write(t, kind{}, open(t, p), items(numbered(0, 15)...), 10)
	checkRows(t, b.rows(t), 15)
}

// What can't be written because the credential or the bucket is wrong stops the
// destination.
func TestWrongBucketCannotBeOpened(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	p := b.place("ndjson")
	for name, change := range map[string]func(*place){
		"another secret": func(p *place) { p.env = map[string]string{"S3_ACCESS": s3Access, "S3_SECRET": "wr0ng"} },
		"no such bucket": func(p *place) { p.yaml = strings.Replace(p.yaml, b.name, "no-such-bucket", 1) },
	} {
		q := *p
		change(&q)
		if _, err := q.open(t.Context()); err == nil || strings.Contains(err.Error(), "wr0ng") || !strings.Contains(err.Error(), "status 40") {
			t.Errorf("%s: Open() = %v", name, err)
		}
	}
}

// A long journal is read in the time of a batch from a store that is far away:
// many entries at once.
func TestPromise10LongJournalIsReadAtOnce(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	w := open(t, b.place("ndjson"))
	for i := range 12 {
		write(t, kind{}, w, items(update(fmt.Sprint("evt-", i), "1", 1, 1)), 0)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var reading atomic.Int64
	together := make(chan struct{})
	b.set(func() {
		b.cut = func(r *http.Request) bool {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "_tercel/") {
				if reading.Add(1) == 8 {
					close(together)
				}
				select {
				case <-together:
				case <-r.Context().Done():
				}
			}
			return false
		}
	})
	write(t, kind{}, open(t, b.place("ndjson")), items(update("evt-3", "1", 1, 1), update("evt-new", "1", 1, 1)), 1)
}
