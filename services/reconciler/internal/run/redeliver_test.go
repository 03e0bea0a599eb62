package run_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

// redelivering lists the deliveries of a hook and prefers that GitHub sends them
// again.
const redelivering = `list: "` + deliveries + `", prefer: redelivery, redeliver: {path: "./{record.id}/attempts", wait: `

func (f *eventsFixture) missed(ids ...string) []listed {
	var all []listed
	for i, id := range ids {
		all = append(all, listed{
			id: id, typ: "issues.opened", at: f.now.Add(-time.Hour + time.Duration(i)*time.Minute).Truncate(time.Second),
			body: `{"issue":{"id":"` + id + `"}}`,
		})
	}
	return all
}

// What the source can send again it is asked for first; only what doesn't come
// is sent from here.
func TestRedeliveryIsAskedForFirst(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, redelivering+"60s}")
	all := f.missed("sent", "also", "refused", "gone")
	all[2].refuses, all[3].gone = true, true
	f.book.add(all...)
	f.book.redeliver = func(e listed) { f.arrive(e) }
	rep := f.run(demand)
	if rep.Missed != 3 || rep.Redelivered != 2 || rep.Repaired != 1 || rep.Unreadable != 1 {
		t.Errorf("report %+v, want 2 sent by the source, 1 from here, 1 that is gone", rep)
	}
	for _, rec := range rep.Records {
		if by := rec.ID == "sent" || rec.ID == "also"; rec.Redelivered != by || rec.Repaired != (rec.ID == "refused") {
			t.Errorf("record %+v", rec)
		}
	}
	if asked := f.book.requests(http.MethodPost); len(asked) != 4 || !strings.HasSuffix(asked[0], "/attempts") {
		t.Errorf("asked for %v, want each once", asked)
	}
	ids := strings.Fields(f.ids())
	slices.Sort(ids)
	if got := strings.Join(ids, " "); got != "also refused sent" {
		t.Errorf("stored %s, want each once", got)
	}
	if asked := f.book.requests(http.MethodGet); slices.ContainsFunc(asked, func(a string) bool { return strings.HasSuffix(a, "/1000") }) {
		t.Errorf("asked for %v: the body of what was sent again is not needed", asked)
	}
}

// What another run has stored meanwhile, as a backfill may, the source has not sent.
func TestRepairsOfOthersAreNoRedeliveries(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, redelivering+"60s}")
	f.book.add(f.missed("repaired", "sent")...)
	f.book.redeliver = func(e listed) {
		if e.id == "sent" {
			f.arrive(e)
			return
		}
		m := f.webhook(e)
		m.Header.Set(event.HeaderOrigin, string(event.Backfill))
		if _, err := f.js.PublishMsg(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
	rep := f.run(demand)
	if rep.Missed != 2 || rep.Redelivered != 1 || rep.Repaired != 0 || rep.Duplicates != 1 || !rep.Complete {
		t.Errorf("report %+v, want one sent by the source, and one that was there", rep)
	}
}

// Promise 10: a run waits only so long, over all its pages, and asks no more
// once it has.
func TestWaitForRedeliveryIsBounded(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, github, redelivering+"1s}")
	f.book.add(f.missed("a", "b", "c", "d", "e", "f")...) // three pages
	began := time.Now()
	rep := f.run(demand)
	if rep.Missed != 6 || rep.Redelivered != 0 || rep.Repaired != 6 || !rep.Complete {
		t.Errorf("report %+v, want all sent from here", rep)
	}
	if asked := f.book.requests(http.MethodPost); len(asked) != 2 {
		t.Errorf("asked for %v, want those of the first page alone", asked)
	}
	if waited := time.Since(began); waited < time.Second {
		t.Errorf("took %s, want the second that webhooks have", waited)
	}
}

// A source that has had enough is not asked further, and nothing waits for it.
func TestRedeliveryThatIsThrottled(t *testing.T) {
	t.Parallel()
	f := setupEvents(t, stripe, `start: 24h, prefer: redelivery, redeliver: {path: "`+deliveries+`/{record.created}/attempts", wait: 60s}`)
	all := f.missed("evt_1", "evt_2", "evt_3")
	for i := range all {
		all[i].typ = "invoice.paid"
	}
	f.book.add(all...)
	for i := range f.book.events {
		f.book.events[i].number = int(f.book.events[i].at.Unix())
	}
	f.book.refusal = http.StatusTooManyRequests
	begun, err := f.runner().Begin(t.Context(), demand)
	if err != nil {
		t.Fatal(err)
	}
	_ = begun.Do() // the API may be out for its next page
	if asked := f.book.requests(http.MethodPost); len(asked) != 1 {
		t.Errorf("asked for %v, want one", asked)
	}
	if got := f.ids(); got != "evt_3 evt_2" && got != "evt_2 evt_3" {
		t.Errorf("stored %q, want the page that was listed", got)
	}
}
