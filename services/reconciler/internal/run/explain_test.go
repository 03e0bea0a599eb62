package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// took notes what an ingress did from one time to another, before now.
func (f *fixture) took(from, to time.Duration, counts intake.Counts) {
	f.t.Helper()
	now := f.clock()
	s := intake.Span{From: now.Add(-from), To: now.Add(-to), Sources: map[string]intake.Counts{"orders": counts, "other": {"refused_size": 9}}}
	data, err := json.Marshal(s)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.js.Publish(f.t.Context(), topology.SubjectIntake, data); err != nil {
		f.t.Fatal(err)
	}
}

// hook stores a webhook's trigger and returns its sequence.
func (f *fixture) hook(typ, id string) uint64 {
	f.t.Helper()
	e := event.Event{ID: "hook " + id, Source: "orders", Account: "_", Type: typ, Origin: event.Webhook, ContentType: "application/json"}
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(`{"id":"`+id+`"}`)
	ack, err := f.js.PublishMsg(f.t.Context(), m)
	if err != nil {
		f.t.Fatal(err)
	}
	return ack.Sequence
}

// work runs a stage's loop until the test ends.
func (f *fixture) work(stream string, c func(topology.Delivery) jetstream.ConsumerConfig, handle func(context.Context, consume.Message) error) {
	f.t.Helper()
	cfg := consume.DefaultConfig()
	loop, err := consume.New(cfg, stream, c(cfg.Delivery()), consume.Each(handle), consume.Deps{JetStream: f.js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("%s: %v", stream, err)
		}
	})
}

// swallow runs an enricher that acknowledges triggers and stores nothing, and
// a collector that has nothing to do.
func (f *fixture) swallow() {
	f.t.Helper()
	f.catchUp = 30 * time.Second
	none := func(context.Context, consume.Message) error { return nil }
	f.work(topology.StreamRaw, func(d topology.Delivery) jetstream.ConsumerConfig { return topology.EnrichConsumer("orders", d) }, none)
	f.collect()
}

func (f *fixture) collect() {
	f.t.Helper()
	none := func(context.Context, consume.Message) error { return nil }
	f.work(topology.StreamAdvisories, topology.CollectConsumer, none)
	f.await(topology.StreamAdvisories, "collect_dead_letters")
}

// await waits until a consumer is there.
func (f *fixture) await(stream, durable string) {
	f.t.Helper()
	for range 300 {
		if _, err := f.js.Consumer(f.t.Context(), stream, durable); err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-f.t.Context().Done():
		}
	}
	f.t.Fatalf("no consumer %s within 30 s", durable)
}

var dryRun = run.Options{Trigger: report.Demand, DryRun: true}

const changedAgo = time.Hour // when the one record that is missed changed

// The cause of a gap is what the evidence shows, and no more.
func TestGapsAreExplained(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		evidence func(f *fixture)
		// young has the record change after the triggers were stored, as far as
		// the skew of clocks allows.
		young bool
		want  report.Cause
		check func(t *testing.T, e report.Evidence, lost int)
	}{
		"the ingress was there and got others": {
			evidence: func(f *fixture) {
				f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5, "duplicate": 1, "handshake": 2})
			},
			want: report.NeverSent,
			check: func(t *testing.T, e report.Evidence, _ int) {
				if e.Accepted != 6 || len(e.Refused) != 0 {
					t.Errorf("evidence %+v, want 6 accepted", e)
				}
			},
		},
		"some were refused": {
			evidence: func(f *fixture) {
				f.took(2*time.Hour, 30*time.Minute, intake.Counts{"accepted": 5})
				f.took(30*time.Minute, 0, intake.Counts{"refused_signature": 3, "unavailable": 1})
			},
			want: report.Refused,
			check: func(t *testing.T, e report.Evidence, _ int) {
				if !maps.Equal(e.Refused, map[string]int64{"refused_signature": 3, "unavailable": 1}) {
					t.Errorf("evidence %+v", e)
				}
			},
		},
		"some were refused before": {
			evidence: func(f *fixture) {
				f.took(3*time.Hour, 2*time.Hour, intake.Counts{"refused_size": 4})
				f.took(2*time.Hour, 0, intake.Counts{"accepted": 5})
			},
			want: report.NeverSent,
		},
		"no ingress was there": {
			evidence: func(f *fixture) {
				f.took(3*time.Hour, 2*time.Hour, intake.Counts{"accepted": 5})
				f.took(30*time.Minute, time.Minute, intake.Counts{"accepted": 5, "refused_rate": 7})
			},
			want: report.Down,
		},
		"nothing came": {
			evidence: func(f *fixture) { f.took(2*time.Hour, time.Minute, intake.Counts{"handshake": 1}) },
			want:     report.Silent,
		},
		"no evidence": {evidence: func(*fixture) {}, want: report.Unknown},
		"evidence begins later": {
			evidence: func(f *fixture) { f.took(30*time.Minute, time.Minute, intake.Counts{"refused_rate": 7}) },
			want:     report.Unknown,
		},
		"its trigger came late and is in work": {
			evidence: func(f *fixture) { f.hook("order.paid", "x") }, want: report.Late,
		},
		"its trigger is in work": {
			evidence: func(f *fixture) { f.hook("order.paid", "x") }, young: true, want: report.Pending,
		},
		"triggers of other records and kinds": {
			evidence: func(f *fixture) {
				f.took(2*time.Hour, time.Minute, intake.Counts{"accepted": 5})
				f.hook("order.paid", "y")
				f.hook("refund.made", "x")
			},
			want: report.NeverSent,
		},
		"its trigger has no outcome": {
			evidence: func(f *fixture) {
				f.hook("order.paid", "x")
				f.swallow()
			},
			want: report.LostInside,
			check: func(t *testing.T, _ report.Evidence, lost int) {
				if lost != 1 {
					t.Errorf("LostInside() = %d, want 1", lost)
				}
			},
		},
		"its trigger is a dead letter": {
			evidence: func(f *fixture) {
				sequence := f.hook("order.paid", "x")
				f.swallow()
				e := event.Event{ID: "hook x", Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook}
				if _, err := deadletter.Publish(f.t.Context(), f.js, deadletter.Letter{
					Stage: topology.StageEnrich, Name: "orders", Stream: topology.StreamRaw, OriginalSequence: sequence,
					Consumer: topology.EnrichDurable("orders"), Subject: e.RawSubject(), Header: e.Header(), Kind: deadletter.Terminated, DeadAt: time.Now(),
				}); err != nil {
					f.t.Fatal(err)
				}
			},
			want: report.GivenUp,
		},
		"its trigger gave an event of no resource": {
			evidence: func(f *fixture) {
				sequence := f.hook("order.paid", "x")
				f.enriched(event.Event{ID: "hook x", Source: "orders", Account: "_", Type: "order.paid", Origin: event.Webhook, TriggerSequence: sequence})
				f.swallow()
			},
			want: report.Late,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.now = time.Now().UTC() // the server stamps messages with it
			changed := f.now.Add(-changedAgo)
			tt.evidence(f)
			if tt.young {
				changed = f.now.Add(30 * time.Second)
				f.pass(10 * time.Minute)
			}
			f.shop.put("x", changed)
			begun := f.begin(f.runner(ascending))
			if err := begun.Do(); err != nil {
				t.Fatal(err)
			}
			rep := f.report(begun.ID())
			if len(rep.Records) != 1 || rep.Missed != 1 {
				t.Fatalf("report %+v, want one record that was missed", rep)
			}
			rec := rep.Records[0]
			if rec.Cause != tt.want || rep.Evidence.Causes[tt.want] != 1 || rep.Evidence.Error != "" {
				t.Errorf("cause %q, evidence %+v, want %q", rec.Cause, rep.Evidence, tt.want)
			}
			if !rec.Repaired || !rec.ChangedAt.Equal(changed.Truncate(time.Nanosecond)) || !rec.FirstSeen.Equal(f.clock()) {
				t.Errorf("record %+v, want it repaired, changed at %s and seen at %s", rec, changed, f.clock())
			}
			if tt.check != nil {
				tt.check(t, rep.Evidence, begun.LostInside())
			}
		})
	}
}

// However many gaps there are to explain, the server is asked once how far the
// enricher is.
func TestTheEnrichersProgressIsAskedForOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.now = time.Now().UTC()
	const gaps = 40
	for i := range gaps {
		id := fmt.Sprint("o", i)
		f.hook("order.paid", id)
		f.shop.put(id, f.now.Add(-changedAgo))
	}
	f.swallow()
	eventually(t, "all triggers are answered", func() bool {
		c, err := f.js.Consumer(t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
		return err == nil && c.CachedInfo().AckFloor.Stream == gaps
	})
	asked := f.requested("CONSUMER.INFO." + topology.StreamRaw + "." + topology.EnrichDurable("orders"))
	if rep := f.do(f.runner(ascending)); rep.Missed != gaps || rep.Evidence.Causes[report.LostInside] != gaps {
		t.Errorf("report %+v, want all gaps lost inside", rep)
	}
	if n := len(asked()); n == 0 || n > gaps/4 {
		t.Errorf("the consumer was asked for %d times, want a few", n)
	}
}

// requested returns what lists the requests that the server's API gets from now on.
func (f *fixture) requested(subject string) (list func() []*nats.Msg) {
	f.t.Helper()
	sub, err := f.nc.SubscribeSync("$JS.API." + subject)
	if err == nil {
		err = f.nc.Flush()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return func() (all []*nats.Msg) {
		f.t.Helper()
		if err := f.nc.Flush(); err != nil {
			f.t.Fatal(err)
		}
		for {
			n, _, err := sub.Pending()
			if err != nil {
				f.t.Fatal(err)
			}
			if n == 0 {
				return all
			}
			m, err := sub.NextMsg(time.Minute)
			if err != nil {
				f.t.Fatal(err)
			}
			all = append(all, m)
		}
	}
}

// What a run finds is a report even where the evidence can't be read.
func TestReportWithoutEvidence(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.js.DeleteStream(t.Context(), topology.StreamIntake); err != nil {
		t.Fatal(err)
	}
	f.shop.put("x", noon.Add(-time.Hour))
	rep := f.do(f.runner(ascending))
	if !rep.Complete || rep.Evidence.Error == "" || rep.Evidence.Causes[report.Unknown] != 1 {
		t.Errorf("report %+v, want a complete one without causes", rep)
	}
}

// The sets of both sides are equal if and only if the versions are, in any
// order of pages, and are carried on by the run that continues a window.
func TestSetsOfBothSides(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.enrich()
	hour := noon.Add(-time.Hour)
	for i, id := range []string{"a", "b", "c", "d", "e"} {
		f.shop.put(id, hour.Add(time.Duration(i)*time.Minute))
	}
	for i, id := range []string{"e", "c", "a"} {
		f.saw(id, hour.Add(time.Duration(4-2*i)*time.Minute), false)
	}
	f.saw("b", hour, false) // an older version
	r := f.runner(ascending)
	first := f.do(r)
	if first.Sets.Listed.Records != 5 || first.Sets.Held.Records != 4 || first.Repaired != 2 {
		t.Errorf("sets %+v, repaired %d, want 5 listed, 4 held, 2 repaired", first.Sets, first.Repaired)
	}
	var held report.Set
	for id, at := range map[string]time.Time{"a": hour, "b": hour, "c": hour.Add(2 * time.Minute), "e": hour.Add(4 * time.Minute)} {
		version, _ := event.TimeVersion(at).Ordinal()
		held.Add(id, version)
	}
	if first.Sets.Held != held {
		t.Errorf("held %+v, want the older version of b: %+v", first.Sets.Held, held)
	}
	f.pass(time.Minute)
	second := f.do(f.runner("items: orders, next: cursor, max_pages: 2")) // everything is listed again, in two runs
	if second.Complete {
		t.Fatalf("report %+v, want an unfinished one", second)
	}
	f.pass(2 * time.Hour)
	third := f.do(f.runner("items: orders, next: cursor, max_pages: 2"))
	if !third.Complete || third.Sets.Listed != third.Sets.Held || third.Sets.Listed != first.Sets.Listed {
		t.Errorf("sets %+v, want both equal to %+v", third.Sets, first.Sets.Listed)
	}
}
