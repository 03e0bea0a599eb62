package auditlog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/auditlog"
)

func setup(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return js
}

func list(t *testing.T, js jetstream.JetStream, q auditlog.Query) []auditlog.Record {
	t.Helper()
	p, err := auditlog.List(t.Context(), js, q)
	if err != nil {
		t.Fatal(err)
	}
	return p.Records
}

// What a crash broke off stays as begun; what ended says how, also when whoever
// asked for it has gone.
func TestAnActionIsBegunUntilItHasEnded(t *testing.T) {
	t.Parallel()
	js := setup(t)
	_, err := auditlog.Begin(t.Context(), js, auditlog.Record{Who: "olivia", Method: "Crash", Reason: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a, err := auditlog.Begin(ctx, js, auditlog.Record{Who: "olivia", Method: "Replay", Reason: "a test", Request: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := a.End(ctx, auditlog.Failed, "called off"); err != nil {
		t.Fatal(err)
	}
	got := list(t, js, auditlog.Query{Limit: 10})
	if len(got) != 2 || got[0].Method != "Replay" || got[0].Outcome != auditlog.Failed || got[0].Result != "called off" || got[0].EndedAt.IsZero() ||
		got[1].Method != "Crash" || got[1].Outcome != auditlog.Begun || !got[1].EndedAt.IsZero() || got[1].Who != "olivia" || got[1].Reason != "a test" {
		t.Errorf("List() = %+v", got)
	}
}

func TestNoActionBeginsWithoutItsRecord(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t) // without streams
	if a, err := auditlog.Begin(t.Context(), js, auditlog.Record{Who: "olivia"}); err == nil {
		t.Errorf("Begin() = %+v, want an error", a)
	}
}

// A full stream refuses new records rather than drop old ones, and with them the
// actions.
func TestAFullStreamKeepsWhatWasDone(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	c.Audit.MaxBytes = 4 << 10
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = auditlog.Begin(t.Context(), js, auditlog.Record{Who: "olivia", Method: fmt.Sprint(n), Reason: "to hide what was done"})
	}
	got := list(t, js, auditlog.Query{Limit: 100})
	if err == nil || len(got) != n-1 || got[len(got)-1].Method != "0" {
		t.Errorf("%d actions began (%v), %d are recorded; want all of them and then a refusal", n, err, len(got))
	}
}

func TestRecordsAreListedByPage(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for i := range 7 {
		a, err := auditlog.Begin(t.Context(), js, auditlog.Record{Who: []string{"olivia", "otto"}[i%2], Method: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.End(t.Context(), auditlog.Done, ""); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		q    auditlog.Query
		want string
	}{
		"all, by one":      {auditlog.Query{Limit: 1}, "6543210"},
		"all, by three":    {auditlog.Query{Limit: 3}, "6543210"},
		"all at once":      {auditlog.Query{Limit: 50}, "6543210"},
		"of one":           {auditlog.Query{Who: "otto", Limit: 2}, "531"},
		"of one method":    {auditlog.Query{Method: "4", Limit: 2}, "4"},
		"of what is ahead": {auditlog.Query{Since: time.Now().Add(time.Hour), Limit: 2}, ""},
	} {
		got := ""
		for {
			p, err := auditlog.List(t.Context(), js, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Records {
				got += r.Method
			}
			if tt.q.Before = p.Next; p.Next == 0 {
				break
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
