package audit_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/audit"
)

// found lists what audits have reported, as "kind name" with a mark for what is
// not repaired.
func (f *fixture) found() string {
	f.t.Helper()
	var texts []string
	for _, x := range findings(f.t, f.js) {
		if x.At.IsZero() || x.Detail == "" {
			f.t.Errorf("finding %+v says too little", x)
		}
		text := string(x.Kind) + " " + x.Name
		if !x.Repaired {
			text += " (not repaired)"
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// pass makes one that must not fail.
func (f *fixture) pass(a *audit.Audit) audit.Result {
	f.t.Helper()
	var res audit.Result
	f.eventually("a pass", func() bool { // a server needs a moment after it deleted something
		var err error
		if res, err = a.RunOnce(f.t.Context()); err != nil {
			f.t.Logf("RunOnce() = %v", err)
		}
		return err == nil
	})
	return res
}

func (f *fixture) wantFound(want string) {
	f.t.Helper()
	if got := f.found(); got != want {
		f.t.Errorf("found %q, want %q", got, want)
	}
}

// healthy is a pipeline that was audited, with n triggers and their events.
func healthy(t *testing.T, n int) (f *fixture, a *audit.Audit, stop func()) {
	t.Helper()
	f = setup(t)
	f.collector()
	stop = f.enricher(nil)
	for i := range n {
		f.trigger(fmt.Sprint("fine", i))
	}
	f.answered()
	a = f.audit(time.Hour)
	f.audited(a, n)
	f.wantFound("")
	return f, a, stop
}

// Promise 3: what the server lost the advisory of is reported when it is found.
func TestLostAdvisoryIsReported(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.collector()
	f.enricher(nil)
	f.trigger("fine")
	f.trigger("lost1")
	f.trigger("lost2")
	f.answered()
	f.audited(f.audit(time.Hour), 3)
	lost := 0
	for _, finding := range findings(t, f.js) { // one, or two if a pass came between the triggers
		if finding.Kind != report.TriggersLost || finding.Name != "orders" {
			t.Errorf("found %+v, want lost triggers of orders alone", finding)
		}
		lost += finding.Count
	}
	if lost != 2 {
		t.Errorf("%d lost triggers found, want 2", lost)
	}
}

// A consumer that somebody has deleted is found whether its stage runs or not,
// and goes on where it was: nothing is passed over, and nothing done twice.
func TestDeletedConsumerIsFoundAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"its stage is away": false, "its stage has made it anew": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a, stop := healthy(t, 3)
			stop()
			f.trigger("fine3")
			if err := f.js.DeleteConsumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders")); err != nil {
				t.Fatal(err)
			}
			if running {
				if _, err := f.js.CreateConsumer(t.Context(), topology.StreamRaw, topology.EnrichConsumer("orders", config().Delivery())); err != nil {
					t.Fatal(err)
				}
			}
			if res := f.pass(a); res.Found != 1 || res.Recovered != 0 {
				t.Errorf("%+v, want one finding", res)
			}
			f.wantFound("consumer_deleted enrich_orders")
			if i := f.consumer(); i.NumPending != 1 {
				t.Errorf("%d pending, want the one that was not worked on", i.NumPending)
			}
			if res := f.pass(a); res.Found != 0 {
				t.Errorf("%+v after the repair", res)
			}
			f.enricher(nil)
			f.eventually("the fourth event", func() bool { return f.stored(topology.StreamEnriched) == 4 })
		})
	}
}

// A destination that the pipeline file no longer has may lose its consumer.
func TestConsumerOfNobodyMayGo(t *testing.T) {
	t.Parallel()
	f, a, _ := healthy(t, 1)
	for _, name := range []string{"warehouse", "retired"} { // the fixture's audit knows the first
		if _, err := f.js.CreateConsumer(t.Context(), topology.StreamEnriched, topology.DeliverConsumer(name, []string{"tercel.enriched.>"}, config().Delivery())); err != nil {
			t.Fatal(err)
		}
	}
	f.pass(a)
	for _, name := range []string{"warehouse", "retired"} {
		if err := f.js.DeleteConsumer(t.Context(), topology.StreamEnriched, topology.DeliverDurable(name)); err != nil {
			t.Fatal(err)
		}
	}
	f.pass(a)
	f.wantFound("consumer_deleted deliver_warehouse")
	if _, err := f.js.Consumer(t.Context(), topology.StreamEnriched, "deliver_warehouse"); err != nil {
		t.Errorf("the destination's consumer: %v", err)
	}
}

// Messages that leave a stream before their age are found, wherever they stood.
func TestPurgedStreamIsFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		purge func(s jetstream.Stream) error
		count int
	}{
		"as a whole":        {func(s jetstream.Stream) error { return s.Purge(t.Context()) }, 0},
		"the oldest":        {func(s jetstream.Stream) error { return s.Purge(t.Context(), jetstream.WithPurgeSequence(2)) }, 0},
		"one in the middle": {func(s jetstream.Stream) error { return s.DeleteMsg(t.Context(), 2) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a, _ := healthy(t, 4)
			if err := tt.purge(f.stream(topology.StreamRaw)); err != nil {
				t.Fatal(err)
			}
			if res := f.pass(a); res.Found != 1 || res.Recovered != 0 {
				t.Errorf("%+v, want one finding", res)
			}
			f.wantFound("stream_purged TERCEL_RAW (not repaired)")
			if all := findings(t, f.js); all[0].Count != tt.count {
				t.Errorf("findings %+v, want a count of %d", all, tt.count)
			}
			f.trigger("fine5")
			f.answered()
			if res := f.pass(a); res.Found != 0 {
				t.Errorf("%+v: found twice", res)
			}
		})
	}
}

// Messages that left a stream by the age that it had at the last pass are no
// finding when that has been raised since: nobody removed them.
func TestAgeThatWasRaisedIsNoFinding(t *testing.T) {
	t.Parallel()
	for name, raised := range map[string]time.Duration{"raised": time.Hour, "without end": 0} {
		for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched} {
			t.Run(name+" "+stream, func(t *testing.T) {
				t.Parallel()
				f, a, stop := healthy(t, 1)
				stop()
				f.keep(stream, time.Minute)
				f.trigger("fine1")
				f.event(event.Event{ID: "fine1", TriggerSequence: 2}, "orders:_:fine1")
				f.pass(a)
				if err := f.stream(stream).Purge(t.Context()); err != nil { // as their age would have done in a minute
					t.Fatal(err)
				}
				f.keep(stream, raised)
				f.pass(a)
				f.wantFound("")
			})
		}
	}
}

// keep sets how long a stream keeps its messages.
func (f *fixture) keep(stream string, age time.Duration) {
	f.t.Helper()
	cfg := f.stream(stream).CachedInfo().Config
	cfg.MaxAge = age
	cfg.Duplicates = time.Minute
	if _, err := f.js.UpdateStream(f.t.Context(), cfg); err != nil {
		f.t.Fatal(err)
	}
}

// Promise 3: events that were purged before a destination had them are made
// again of their triggers; those that it had are not.
func TestPurgedEventsAreMadeAgain(t *testing.T) {
	t.Parallel()
	for name, delivered := range map[string]bool{"not delivered": false, "delivered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a, _ := healthy(t, 2)
			if _, err := f.js.CreateConsumer(t.Context(), topology.StreamEnriched,
				topology.DeliverConsumer("warehouse", []string{"tercel.enriched.>"}, config().Delivery())); err != nil {
				t.Fatal(err)
			}
			f.pass(a)
			if delivered { // long ago, as the audit would have noted it
				f.setProgress("undelivered", time.Now().Add(3*time.Hour))
			}
			if err := f.stream(topology.StreamEnriched).Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := 2
			if delivered {
				want = 0
			}
			got := f.until(a, "both triggers audited again", func(sum, _ audit.Result) bool { return sum.Audited >= 2 })
			if got.Recovered != want {
				t.Errorf("%+v, want %d sent again", got, want)
			}
			if found := f.found(); !strings.HasPrefix(found, "stream_purged TERCEL_ENRICHED") {
				t.Errorf("found %q", found)
			}
			f.eventually("the events", func() bool { return f.stored(topology.StreamEnriched) == uint64(want) })
		})
	}
}

// A stream that somebody has deleted, and one that was made anew since, are told
// apart and reported; the pipeline has it again.
func TestRemovedAndRecreatedStreams(t *testing.T) {
	t.Parallel()
	for name, anew := range map[string]bool{"removed": false, "recreated": true} {
		for _, stream := range []string{
			topology.StreamRaw, topology.StreamEnriched, topology.StreamAdvisories, topology.StreamDLQ, topology.StreamReports, topology.StreamSeen,
		} {
			t.Run(name+" "+stream, func(t *testing.T) {
				t.Parallel()
				f, a, stop := healthy(t, 1)
				stop()
				if err := f.js.DeleteStream(t.Context(), stream); err != nil {
					t.Fatal(err)
				}
				if anew {
					f.ensure()
				}
				f.pass(a)
				if got := f.found(); !strings.Contains(got, "stream_"+name+" "+stream) || strings.Count(got, stream) != 1 {
					t.Errorf("found %q, want it %s, once", got, name)
				}
				f.stream(stream) // it is there
				before := f.found()
				f.pass(a)
				f.wantFound(before)
			})
		}
	}
}

// A bucket that somebody has deleted is reported and made anew.
func TestRemovedBuckets(t *testing.T) {
	t.Parallel()
	f, a, _ := healthy(t, 1)
	var want []string
	for _, b := range topology.Buckets(topology.DefaultConfig()) {
		if err := f.js.DeleteKeyValue(t.Context(), b.Bucket); err != nil {
			t.Fatal(err)
		}
		want = append(want, "bucket_removed "+b.Bucket)
	}
	f.pass(a)
	slices.Sort(want)
	f.wantFound(strings.Join(want, ", "))
	changes, err := topology.Diff(t.Context(), f.js, topology.DefaultConfig())
	if err != nil || len(changes) != 0 {
		t.Errorf("still differs: %v, %v", changes, err)
	}
	for _, x := range findings(t, f.js) {
		if len(x.Detail) < 20 {
			t.Errorf("finding %+v doesn't say what is lost", x)
		}
	}
}

// A power cut that takes the tail of the streams is found and reported, and what
// was lost with it is sent again.
func TestTruncatedStreamIsReported(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	nc := server.Connect()
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t, js}
	f.ensure()
	f.collector()
	stop := f.enricher(nil)
	f.trigger("fine0")
	f.answered()
	a := f.audit(time.Hour)
	f.audited(a, 1)
	stop()
	server.Stop()
	backup := t.TempDir()
	if err := os.CopyFS(backup+"/js", os.DirFS(server.StoreDir())); err != nil {
		t.Fatal(err)
	}
	server.Resume()
	f.eventually("the server", func() bool { _, err := f.js.AccountInfo(t.Context()); return err == nil })
	for i := range 3 {
		f.trigger(fmt.Sprint("fine", i+1))
	}
	stop = f.enricher(nil)
	f.answered()
	f.audited(a, 3)
	stop()
	server.Stop()
	restoreStreams(t, backup+"/js", server.StoreDir(), topology.StreamRaw, topology.StreamEnriched)
	server.Resume()
	f.eventually("the server", func() bool { _, err := f.js.AccountInfo(t.Context()); return err == nil })
	f.pass(a)
	if got := f.found(); !strings.Contains(got, "stream_truncated TERCEL_RAW") || !strings.Contains(got, "stream_truncated TERCEL_ENRICHED") {
		t.Errorf("found %q, want both streams truncated", got)
	}
}

// restoreStreams puts the folders of some streams back.
func restoreStreams(t *testing.T, from, to string, streams ...string) {
	t.Helper()
	const folder = "/jetstream/$G/streams/"
	for _, name := range streams {
		if err := os.RemoveAll(to + folder + name); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(to+folder+name, os.DirFS(from+folder+name)); err != nil {
			t.Fatal(err)
		}
	}
}

// A consumer that stood still is reported.
func TestStalledConsumerIsReported(t *testing.T) {
	t.Parallel()
	f, a, stop := healthy(t, 1)
	stop()
	if _, err := f.js.ResetConsumerToSequence(t.Context(), topology.StreamRaw, "enrich_orders", 1000); err != nil {
		t.Fatal(err)
	}
	f.pass(a)
	f.wantFound("consumer_stalled enrich_orders")
}

// setProgress changes what the audit has noted.
func (f *fixture) setProgress(key string, at time.Time) {
	f.t.Helper()
	kv, err := f.js.KeyValue(f.t.Context(), topology.BucketCursors)
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := kv.Get(f.t.Context(), "_audit.raw")
	if err != nil {
		f.t.Fatal(err)
	}
	text := string(e.Value())
	i := strings.Index(text, `"`+key+`":"`)
	if i < 0 {
		f.t.Fatalf("%s has no %s", text, key)
	}
	from := i + len(key) + 4
	to := from + strings.IndexByte(text[from:], '"')
	if _, err := kv.Put(f.t.Context(), "_audit.raw", []byte(text[:from]+at.UTC().Format(time.RFC3339Nano)+text[to:])); err != nil {
		f.t.Fatal(err)
	}
}
