package reconciler_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler"
)

// holds publishes the event of an order that the shop doesn't list.
func (f *fixture) holds(id string) {
	f.t.Helper()
	at := time.Now().Add(-time.Hour)
	e := event.Event{
		ID: "hook " + id, Source: "orders", Account: "north", Type: "order.made", Origin: event.Webhook, Resource: "order",
		RecordID: id, Version: event.TimeVersion(at), ObservedAt: at,
	}
	m := nats.NewMsg(e.EnrichedSubject())
	m.Header, m.Data = e.Header(), []byte(`{"trigger":null,"record":{}}`)
	if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
		f.t.Fatal(err)
	}
}

// Orphans are looked for by schedule, behind reconciliation. What is stopped for
// having too many is an error in the log.
func TestOrphansAreLookedForBySchedule(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h, deletes: {every: 1h, tombstone: true}")
	for _, id := range []string{"x1", "x2", "x3", "x4", "x5", "x6", "x7"} {
		f.holds(id)
	}
	var log written
	s, err := reconciler.New(f.cfg, reconciler.Deps{Conn: f.server.Connect(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	scan := func() *report.Report {
		for _, r := range f.reports() {
			if r.Deletes != nil && r.Trigger == report.Schedule {
				return &r
			}
		}
		return nil
	}
	eventually(t, "a scan", func() bool { return scan() != nil })
	if r := scan(); !strings.Contains(r.Deletes.Stopped, "7 of the 7 records that the pipeline holds") || r.Complete || r.Orphaned != 0 {
		t.Errorf("report %+v %+v, want it stopped", r, r.Deletes)
	}
	eventually(t, "the log says so", func() bool {
		return len(log.lines(`level=ERROR msg="orphans were neither asked for nor deleted" resource=_deletes.orders.north.order`)) == 1
	})
	// One that is asked for changes nothing of the schedule, and is told apart.
	started := f.ask(f.server.Connect(), control.Request{Source: "orders", Resource: "order", Deletes: true, DryRun: true})
	if r := f.follow(started); r.Deletes == nil || !r.DryRun || r.Deletes.Unlisted != 7 {
		t.Errorf("report %+v", r)
	}
}

// A scan that somebody asked for is gone on with when its reconciler stops, also where
// none is scheduled.
func TestScanThatWasAskedForGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	stop := f.start()
	eventually(t, "the first run, by schedule", func() bool { return len(f.reports()) == 1 })
	f.holds("x1")
	there := f.holdPage("3")
	started := f.ask(f.server.Connect(), control.Request{Source: "orders", Resource: "order", Deletes: true, Tombstone: true})
	<-there
	stop()
	f.shop.set(nil)
	f.start()
	if r := f.follow(started); r.Deletes == nil || r.Deletes.Unlisted != 1 || r.Listed != 5 || r.Error != "" {
		t.Errorf("report %+v %+v, want that of the scan", r, r.Deletes)
	}
}
