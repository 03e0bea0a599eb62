package reconciler_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/services/internal/control"
)

func (f *fixture) store() *cursor.Store {
	f.t.Helper()
	s, err := cursor.Open(f.t.Context(), f.js)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) cursor() cursor.Entry {
	f.t.Helper()
	e, err := f.store().Load(f.t.Context(), cursor.Key{Source: "orders", Account: "north", Resource: "order"})
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// holdPage keeps requests of a page in the shop until they are given up.
func (f *fixture) holdPage(held string) chan struct{} {
	there := make(chan struct{}, 8)
	f.shop.set(func(ctx context.Context, page string) {
		if page == held {
			there <- struct{}{}
			<-ctx.Done()
		}
	})
	return there
}

// A run stops at its last saved page when its source is paused, nothing begins
// while it is, not even after a restart, and once it is resumed the run goes on
// from there.
func TestPausedRunStopsAtItsLastSavedPageAndGoesOn(t *testing.T) {
	t.Parallel()
	f := setup(t, "1h")
	there := f.holdPage("3")
	stop := f.start()
	<-there
	if _, err := f.store().Pause(t.Context(), cursor.Scope{Source: "orders"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.freed("reconcile.orders.north.order")
	left := f.cursor()
	if left.Window == nil || left.Window.Pages != 2 || left.Window.Run == "" || len(f.reports()) != 0 {
		t.Fatalf("cursor %+v and %d reports, want a window of two pages and no report", left.Cursor, len(f.reports()))
	}
	f.shop.set(nil)
	if _, err := control.RunReconcile(t.Context(), f.server.Connect(), control.Request{Source: "orders", Resource: "order"}); !errors.Is(err, control.ErrPaused) {
		t.Errorf("a run on demand: %v, want ErrPaused", err)
	}
	stop()
	f.start()
	f.answers()
	if got := f.shop.asked(); got != "1 2 3" || !f.cursor().StartedAt.Equal(left.StartedAt) {
		t.Errorf("pages asked for while it is paused: %s, cursor %+v; want nothing more", got, f.cursor().Cursor)
	}
	if _, _, err := f.store().Resume(t.Context(), cursor.Scope{Source: "orders"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the run's report", func() bool { return len(f.reports()) == 1 })
	if rep := f.reports()[0]; rep.Run != left.Window.Run || rep.Pages != 5 || rep.Listed != 5 || !rep.Complete {
		t.Errorf("report %+v, want the whole window in the name of the run that was paused", rep)
	}
	if got := f.shop.asked(); got != "1 2 3 3 4 5" {
		t.Errorf("pages asked for: %s, want only the third twice", got)
	}
}

// freed waits until nobody has a lease.
func (f *fixture) freed(lease string) {
	f.t.Helper()
	eventually(f.t, "nobody has "+lease, func() bool {
		who, err := cursor.Holder(f.t.Context(), f.js, lease)
		return err == nil && who == ""
	})
}

// answers waits until a service has its plans under way: it answers requests.
func (f *fixture) answers() {
	f.t.Helper()
	nc := f.server.Connect()
	eventually(f.t, "a reconciler answers", func() bool {
		_, err := control.RunReconcile(f.t.Context(), nc, control.Request{Source: "orders", Resource: "none"})
		return errors.Is(err, control.ErrUnknown)
	})
}

// A pause of one account leaves the others alone, in hand or not.
func TestPauseOfAnAccountLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t, "1h", "[north, south]")
	if _, err := f.store().Pause(t.Context(), cursor.Scope{Source: "orders", Account: "north"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.start()
	eventually(t, "south is reconciled", func() bool { return f.reportsOf("south") == 1 })
	nc := f.server.Connect()
	_, err := control.RunReconcile(t.Context(), nc, control.Request{Source: "orders", Account: "north", Resource: "order"})
	if !errors.Is(err, control.ErrPaused) || !strings.Contains(err.Error(), "orders of account north since ") {
		t.Errorf("a run of north on demand: %v, want ErrPaused with what is paused", err)
	}
	f.ask(nc, control.Request{Source: "orders", Account: "south", Resource: "order"})
	eventually(t, "south is reconciled again", func() bool { return f.reportsOf("south") == 2 })
	if n := f.reportsOf("north"); n != 0 {
		t.Errorf("%d runs of north while it is paused", n)
	}
	if _, _, err := f.store().Resume(t.Context(), cursor.Scope{Source: "orders", Account: "north"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "north is reconciled", func() bool { return f.reportsOf("north") == 1 })
}

// How far a resource has come is told although one of its accounts is paused and the
// service was started since. It does not run beside others: the meter provider is the
// process's.
func TestPausedAccountDoesNotHideHowFarTheOthersAre(t *testing.T) {
	f := setupAccounts(t, "1h", "[north, south]")
	stop := f.start()
	eventually(t, "both are reconciled", func() bool { return f.reportsOf("north") == 1 && f.reportsOf("south") == 1 })
	stop()
	if _, err := f.store().Pause(t.Context(), cursor.Scope{Source: "orders", Account: "north"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	f.start()
	eventually(t, "one is told to be paused, and how far all are", func() bool {
		return measured(t, reader, "tercel.reconciliations.paused") == "resource=order,source=orders 1" &&
			measured(t, reader, "tercel.reconciliations.lagged") != ""
	})
}

// A cursor that is reset makes the run in hand give up, and what it was reset to
// is listed next.
func TestResetIsListedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t, "24h")
	f.start()
	eventually(t, "the first run", func() bool { return len(f.reports()) == 1 })
	first := f.reports()[0]
	there, letGo := make(chan struct{}), make(chan struct{})
	f.shop.set(func(ctx context.Context, page string) {
		if page == "3" {
			close(there)
			select {
			case <-letGo:
			case <-ctx.Done():
			}
		}
	})
	f.ask(f.server.Connect(), control.Request{Source: "orders", Resource: "order"})
	<-there
	to := first.To.Add(-time.Hour)
	before, err := f.store().Reset(t.Context(), f.cursor().Key, to, time.Now())
	if err != nil || !before.Through.Equal(first.To) || before.Window == nil {
		t.Fatalf("Reset() = %+v, %v", before, err)
	}
	f.shop.set(nil)
	close(letGo) // the run in hand hears of it when its page has come
	f.ask(f.server.Connect(), control.Request{Source: "orders", Resource: "order"})
	eventually(t, "the window is listed again", func() bool { return len(f.reports()) == 2 })
	if rep := f.reports()[1]; !rep.From.Equal(to.Add(-10*time.Minute)) || rep.Listed != 5 || rep.Matched+rep.Missed != 5 || !rep.Complete {
		t.Errorf("report %+v, want the window from the time of the reset", rep)
	}
}
