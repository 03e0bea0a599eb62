package proof_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/pgtest"
	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

// faults are the faults of a verdict by their names.
func faults(v proof.Verdict) map[string][]string {
	all := map[string][]string{
		"lost": v.Lost, "undelivered": v.Undelivered, "waiting": v.Waiting, "doubled": v.Doubled, "backward": v.Backward,
		"undone": v.Undone, "invented": v.Invented, "refused": v.Refused, "contextless": v.Contextless,
	}
	maps.DeleteFunc(all, func(_ string, what []string) bool { return len(what) == 0 })
	return all
}

func TestACompleteFarEndHasNoFault(t *testing.T) {
	t.Parallel()
	w := firstWorld(t).withStreams()
	v := w.verdict()
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	c := w.book.Counts()
	if c.Dropped == 0 || c.ForgedRefused == 0 || c.DuplicatesAccepted == 0 {
		t.Fatalf("the provider was too kind: %+v", c)
	}
	if v.Accepted != c.Accepted || v.Delivered != c.Accepted || v.Repaired != c.Dropped-w.deleted() || v.Absorbed != c.DuplicatesAccepted ||
		len(v.Took) != c.Accepted {
		t.Errorf("%d accepted, %d delivered, %d repaired, %d absorbed, %d took; book says %+v",
			v.Accepted, v.Delivered, v.Repaired, v.Absorbed, len(v.Took), c)
	}
	want := fmt.Sprintf("| %d | %[1]d | 0 | %d | 0 | 0 | 0 | 0 | 0 |", c.Accepted, v.Repaired)
	if v.Row() != want || strings.Count(proof.SummaryHead, "|") != 2*strings.Count(want, "|") {
		t.Errorf("Row() = %s, want %s", v.Row(), want)
	}
}

// deleted counts dropped changes that no list tells of: there are none.
func (w *world) deleted() (n int) {
	for _, c := range w.book.Changes {
		if c.Dropped && c.Deleted {
			n++
		}
	}
	return n
}

// Whatever a pipeline can do wrong is told, by the one name that it has.
func TestEveryPlantedFaultIsTold(t *testing.T) {
	t.Parallel()
	forged := func(w *world) simulator.Delivery {
		for _, d := range w.book.Deliveries {
			if d.Kind == simulator.Forged {
				return d
			}
		}
		w.t.Fatal("nothing was forged")
		return simulator.Delivery{}
	}
	forgery := func(w *world) (event.Event, string) {
		d := forged(w)
		e := eventOf(w.newer)
		e.ID, e.DeliveryID = d.ID, d.ID
		return e, fmt.Sprintf(`{"trigger":{"delivery":%q}}`, d.ID)
	}
	tests := map[string]struct {
		plant func(w *world) (words string) // of the error
		want  []string                      // faults
	}{
		"a record is missing": {func(w *world) string {
			w.unseen(`DELETE FROM records WHERE MINE AND record_id = $1`, w.alive)
			return w.alive + " is not in the destination"
		}, []string{"lost"}},
		"a record was removed": {func(w *world) string {
			w.exec(`DELETE FROM records WHERE MINE AND record_id = $1`, w.alive)
			return w.alive + " was removed with version " + string(event.TimeVersion(w.newer.At))
		}, []string{"lost", "backward"}},
		"a record is older than at the source": {func(w *world) string {
			w.unseen(`UPDATE records SET version = $1 WHERE MINE AND record_id = $2`, string(event.TimeVersion(w.older.At)), w.alive)
			return w.alive + " has version " + string(event.TimeVersion(w.older.At)) + " in the destination"
		}, []string{"lost"}},
		"a record has other content": {func(w *world) string {
			w.exec(`UPDATE records SET record = '{"id":"ord_other"}' WHERE MINE AND record_id = $1`, w.alive)
			return w.alive + " has other content"
		}, []string{"lost", "doubled"}},
		"a deletion didn't come": {func(w *world) string {
			w.unseen(`UPDATE records SET deleted = false, deleted_at = NULL WHERE MINE AND record_id = $1`, w.gone)
			return w.gone + " is not deleted"
		}, []string{"lost"}},
		"a living record is deleted": {func(w *world) string {
			w.exec(`UPDATE records SET deleted = true, deleted_at = now() WHERE MINE AND record_id = $1`, w.alive)
			return w.alive + " is deleted in the destination only"
		}, []string{"lost", "invented"}},
		"a living record was deleted for a moment, until a later change": {func(w *world) string {
			w.unseen(`UPDATE records SET version = $1 WHERE MINE AND record_id = $2`, string(event.TimeVersion(w.older.At)), w.alive)
			w.exec(`UPDATE records SET deleted = true, deleted_at = now() WHERE MINE AND record_id = $1`, w.alive)
			w.exec(`UPDATE records SET deleted = false, version = $1, observed_at = now() WHERE MINE AND record_id = $2`, string(event.TimeVersion(w.newer.At)), w.alive)
			return w.alive + " was deleted at "
		}, []string{"invented"}},
		"a record was deleted before it was at the source": {func(w *world) string {
			w.exec(`INSERT INTO proof.effects(at, target, did, source, account, resource, record_id, event_id, was, version, deleted_at, deleted)
				VALUES ($2, 'records', 'UPDATE', $3, '_', 'order', $1, 'e', '1', '1', $2, true)`, w.gone, w.end().Add(-time.Second), w.source)
			return w.gone + " was deleted at "
		}, []string{"invented"}},
		"a deleted record came back for a moment": {func(w *world) string {
			w.exec(`UPDATE records SET deleted = false WHERE MINE AND record_id = $1`, w.gone)
			w.exec(`UPDATE records SET deleted = true, deleted_at = now() WHERE MINE AND record_id = $1`, w.gone)
			return w.gone + " was deleted and came back with version "
		}, []string{"backward"}},
		"a deleted record came back for a moment with a newer version": {func(w *world) string {
			w.exec(`UPDATE records SET deleted = false, version = $1, observed_at = now() WHERE MINE AND record_id = $2`,
				string(event.TimeVersion(w.end().Add(-time.Nanosecond))), w.gone)
			w.exec(`UPDATE records SET deleted = true, deleted_at = now() WHERE MINE AND record_id = $1`, w.gone)
			return w.gone + " was deleted and came back with version "
		}, []string{"backward"}},
		"an event is missing": {func(w *world) string {
			w.unseen(`DELETE FROM events WHERE MINE AND event_id = $1`, w.older.DeliveryID)
			return w.older.DeliveryID + " is neither in the destination nor"
		}, []string{"undelivered"}},
		"an event was removed": {func(w *world) string {
			w.exec(`DELETE FROM events WHERE MINE AND event_id = $1`, w.older.DeliveryID)
			return w.older.DeliveryID + " was removed at "
		}, []string{"undelivered", "undone"}},
		"an event was changed": {func(w *world) string {
			w.exec(`UPDATE events SET body = '{}' WHERE MINE AND event_id = $1`, w.older.DeliveryID)
			return w.older.DeliveryID + " was changed at "
		}, []string{"undone"}},
		"an event was written twice, one after the other": {func(w *world) string {
			w.exec(`INSERT INTO proof.effects(target, did, source, account, event_id) VALUES ('events', 'INSERT', $2, '_', $1)`, w.older.DeliveryID, w.source)
			return w.older.DeliveryID + " was written 2 times"
		}, []string{"doubled"}},
		"a webhook became two events": {func(w *world) string {
			e := eventOf(w.older)
			e.ID += "#2"
			w.write(e, `{}`)
			return w.older.DeliveryID + " has 2 events"
		}, []string{"doubled"}},
		"an event changed its record twice": {func(w *world) string {
			w.unseen(`UPDATE records SET related = '{}' WHERE MINE AND record_id = $1`, w.alive)
			w.exec(`UPDATE records SET related = NULL WHERE MINE AND record_id = $1`, w.alive)
			return w.alive + " was made version " + string(event.TimeVersion(w.newer.At)) + " of " + w.newer.DeliveryID + " 2 times"
		}, []string{"doubled"}},
		"a version went back for a moment": {func(w *world) string {
			older, newer := string(event.TimeVersion(w.older.At)), string(event.TimeVersion(w.newer.At))
			w.exec(`UPDATE records SET version = $1 WHERE MINE AND record_id = $2`, older, w.alive)
			w.exec(`UPDATE records SET version = $1, related = '{}', observed_at = now() WHERE MINE AND record_id = $2`, newer, w.alive)
			return w.alive + " went from version " + newer + " back to " + older
		}, []string{"backward"}},
		"a version vanished for a moment": {func(w *world) string {
			newer := string(event.TimeVersion(w.newer.At))
			w.exec(`UPDATE records SET version = NULL WHERE MINE AND record_id = $1`, w.alive)
			w.exec(`UPDATE records SET version = $1, observed_at = now() WHERE MINE AND record_id = $2`, newer, w.alive)
			return w.alive + " went from version " + newer + " back to none"
		}, []string{"backward"}},
		"a deletion went back for a moment": {func(w *world) string {
			w.exec(`UPDATE records SET deleted_at = deleted_at - interval '1 hour' WHERE MINE AND record_id = $1`, w.gone)
			return w.gone + " went from deleted at "
		}, []string{"backward"}},
		"a deletion vanished for a moment": {func(w *world) string {
			w.exec(`UPDATE records SET deleted = false, deleted_at = NULL WHERE MINE AND record_id = $1`, w.gone)
			w.exec(`UPDATE records SET deleted = true, deleted_at = now() WHERE MINE AND record_id = $1`, w.gone)
			return "back to never"
		}, []string{"backward"}},
		"a version that never was": {func(w *world) string {
			e := eventOf(w.older)
			e.ID, e.DeliveryID, e.Origin, e.Version = "reconcile:order:x", "", event.Reconcile, event.TimeVersion(time.Now())
			w.write(e, `{}`)
			return e.ID + " has version " + string(e.Version)
		}, []string{"invented"}},
		"a webhook that never was": {func(w *world) string {
			e := eventOf(w.older)
			e.ID, e.DeliveryID = "dlv-x", "dlv-x"
			w.write(e, `{}`)
			return "dlv-x is a webhook in the destination only"
		}, []string{"invented"}},
		"a record that never was": {func(w *world) string {
			e := eventOf(w.older)
			e.RecordID = "ord_x"
			w.record(e, `{}`)
			return "ord_x is a record in the destination only"
		}, []string{"invented"}},
		"a forgery was accepted": {func(w *world) string {
			d := forged(w)
			d.Status = 202
			w.book.Deliveries = append(slices.Clone(w.book.Deliveries), d)
			return d.ID + " was answered 202"
		}, []string{"refused"}},
		"a forgery is in the destination": {func(w *world) string {
			e, body := forgery(w)
			w.write(e, body)
			return e.ID + " is in the destination"
		}, []string{"refused"}},
		"a forgery is in the destination under another name": {func(w *world) string {
			e, body := forgery(w)
			e.ID, e.DeliveryID = "evt-x", ""
			w.write(e, body)
			return "evt-x is in the destination"
		}, []string{"refused"}},
		"a forgery is among the triggers": {func(w *world) string {
			e, body := forgery(w)
			w.withStreams().publish(e.RawSubject(), e, body)
			return e.ID + " is in TERCEL_RAW at "
		}, []string{"refused"}},
		"a forgery's body is among the triggers": {func(w *world) string {
			e, body := forgery(w)
			e.ID, e.DeliveryID = "x", "x"
			w.withStreams().publish(e.RawSubject(), e, body)
			return "x is in TERCEL_RAW at "
		}, []string{"refused"}},
		"a forgery is among the events": {func(w *world) string {
			e, body := forgery(w)
			w.withStreams().publish(e.EnrichedSubject(), e, body)
			return e.ID + " is in TERCEL_ENRICHED at "
		}, []string{"refused"}},
		"a forgery is a dead letter": {func(w *world) string {
			e, body := forgery(w)
			w.withStreams().bury(e, body, func(*deadletter.Letter) {})
			return e.ID + " is in TERCEL_DLQ at "
		}, []string{"refused"}},
		"a refused webhook is among the triggers": {func(w *world) string {
			w.refuse()
			e := eventOf(w.older)
			e.ID, e.DeliveryID = "dlv-refused", "dlv-refused"
			w.withStreams().publish(e.RawSubject(), e, `{}`)
			return "dlv-refused is in TERCEL_RAW at "
		}, []string{"refused"}},
		"a refused webhook is in the destination": {func(w *world) string {
			w.refuse()
			e := eventOf(w.older)
			e.ID, e.DeliveryID = "dlv-refused", "dlv-refused"
			w.write(e, `{}`)
			return "dlv-refused is in the destination"
		}, []string{"refused"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			words := tt.plant(w)
			v := w.verdict()
			got := faults(v)
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(slices.Values(tt.want))) {
				t.Errorf("faults %v, want %v", got, tt.want)
			}
			if err := v.Err(); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("Err() = %v, want %q in it", err, words)
			}
		})
	}
}

// end is when the source deleted the record that is gone.
func (w *world) end() time.Time {
	for _, c := range w.book.Changes {
		if c.RecordID == w.gone && c.Deleted {
			return c.At
		}
	}
	w.t.Fatal("nothing was deleted")
	return time.Time{}
}

// A record may come back that was created again at the source, and one whose tombstone
// is of a question from before its deletion.
func TestARecordMayComeBackThatIsThere(t *testing.T) {
	t.Parallel()
	back := func(w *world, version event.Version) {
		w.exec(`UPDATE records SET deleted = false, version = $1, observed_at = now() WHERE MINE AND record_id = $2`, string(version), w.gone)
		w.unseen(`UPDATE records SET deleted = true WHERE MINE AND record_id = $1`, w.gone)
	}
	for name, happen := range map[string]func(w *world){
		"created again": func(w *world) { back(w, event.TimeVersion(w.end().Add(time.Second))) },
		"asked for before it was deleted": func(w *world) {
			w.unseen(`UPDATE records SET deleted_at = $1 WHERE MINE AND record_id = $2`, w.end().Add(-time.Second), w.gone)
			back(w, event.TimeVersion(w.end().Add(-time.Nanosecond)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			happen(w)
			if got := faults(w.verdict()); len(got) > 0 {
				t.Errorf("faults %v, want none", got)
			}
		})
	}
}

// refuse adds a webhook to the book that was answered 4xx.
func (w *world) refuse() {
	w.book.Deliveries = append(slices.Clone(w.book.Deliveries), simulator.Delivery{
		Kind: simulator.Genuine, ID: "dlv-refused", RecordID: w.alive, Attempt: 1, Status: 413, GaveUp: true,
	})
}

// A webhook whose attempt was answered 5xx may have been stored, and one that was
// taken in the end may be there, whatever it was answered before.
func TestWhatMayHaveBeenStoredWasNotRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.book.Deliveries = append(slices.Clone(w.book.Deliveries), simulator.Delivery{Kind: simulator.Genuine, ID: w.newer.DeliveryID, Attempt: 1, Status: 429})
	for i := range w.book.Deliveries {
		if d := &w.book.Deliveries[i]; d.ID == w.older.DeliveryID {
			d.Status = 503
		}
	}
	if err := w.verdict().Err(); err != nil {
		t.Error(err)
	}
}

// What a webhook took counts from when it was due, though it was sent again and again,
// unless it waited for an operator.
func TestTheTimeOfAWebhookBeginsWhenItWasDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.book.Deliveries = slices.Clone(w.book.Deliveries)
	for i := range w.book.Deliveries {
		switch d := &w.book.Deliveries[i]; {
		case d.Kind != simulator.Genuine:
		case d.ID == w.newer.DeliveryID:
			d.Attempt, d.DueAt = 7, d.DueAt.Add(-time.Hour)
		case d.ID == w.older.DeliveryID:
			d.DueAt = d.DueAt.Add(-2 * time.Hour)
		}
	}
	w.unseen(`UPDATE events SET origin = 'replay' WHERE MINE AND event_id = $1`, w.older.DeliveryID)
	v := w.verdict()
	if n := len(v.Took); n != v.Accepted-1 || v.Took[n-1].Round(time.Hour) != time.Hour {
		t.Errorf("%d of %d took up to %s, want all but the replayed one, up to an hour", n, v.Accepted, v.Took[max(n-1, 0)])
	}
}

// bury makes an event a dead letter, changed by change.
func (w *world) bury(e event.Event, body string, change func(*deadletter.Letter)) uint64 {
	w.t.Helper()
	w.buried++ // a message is buried once
	now := time.Now()
	l := deadletter.Letter{
		Subject: e.RawSubject(), Stream: topology.StreamRaw, OriginalSequence: w.buried + 1000, Consumer: topology.EnrichDurable("orders"),
		MsgID: e.MsgID(), Kind: deadletter.Terminated, DeadAt: now, Header: e.Header(), Payload: []byte(body),
		Reason: consume.Reason{Class: fault.Fatal, Message: "a test", Attempts: 3, FirstAt: now, LastAt: now},
	}
	change(&l)
	ack, err := deadletter.Publish(w.t.Context(), w.js, l)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

// A webhook that is only a dead letter is not lost, as long as the letter says
// all and nobody has replayed it. Once all were replayed it is told.
func TestADeadLetterExcusesItsWebhook(t *testing.T) {
	t.Parallel()
	whole := func(*deadletter.Letter) {}
	without := func(name string) func(*deadletter.Letter) {
		return func(l *deadletter.Letter) { delete(l.Header, name) }
	}
	tests := map[string]struct {
		change func(*deadletter.Letter)
		after  func(w *world, seq uint64)
		lacks  string // "" is nothing
		lost   bool
	}{
		"a whole one":               {change: whole},
		"given up by the server":    {change: func(l *deadletter.Letter) { l.Kind = deadletter.MaxDeliver }},
		"with an empty payload":     {change: func(l *deadletter.Letter) { l.Payload = nil }, lacks: "its payload", lost: true},
		"without its payload":       {change: func(l *deadletter.Letter) { l.PayloadMissing = true }, lacks: "its payload", lost: true},
		"another's payload":         {change: func(l *deadletter.Letter) { l.Payload = []byte(`{"delivery":"other"}`) }, lacks: "its payload", lost: true},
		"without its id":            {change: without(event.HeaderID), lacks: "the event's attributes", lost: true},
		"without its delivery's id": {change: without(event.HeaderDeliveryID), lacks: "the delivery's id", lost: true},
		"without its subject":       {change: func(l *deadletter.Letter) { l.Subject = "" }, lacks: "the original's subject", lost: true},
		"without its place":         {change: func(l *deadletter.Letter) { l.OriginalSequence = 0 }, lacks: "the original's place", lost: true},
		"without its message id":    {change: func(l *deadletter.Letter) { l.MsgID = "" }, lacks: "the original's message id", lost: true},
		"without who gave it up":    {change: func(l *deadletter.Letter) { l.Kind = "" }, lacks: "who gave it up", lost: true},
		"without a time":            {change: func(l *deadletter.Letter) { l.DeadAt = time.Time{} }, lacks: "when it was given up", lost: true},
		"without a reason":          {change: func(l *deadletter.Letter) { l.Reason.Message = "" }, lacks: "the reason", lost: true},
		"without its attempts":      {change: func(l *deadletter.Letter) { l.Reason.Attempts = 0 }, lacks: "its attempts", lost: true},
		"replayed since": {change: whole, lost: true, after: func(w *world, seq uint64) {
			if _, err := deadletter.Replay(w.t.Context(), w.js, seq, deadletter.ReplayOptions{}); err != nil {
				w.t.Fatal(err)
			}
		}},
		"discarded since": {change: whole, lost: true, after: func(w *world, seq uint64) {
			if err := deadletter.Discard(w.t.Context(), w.js, seq, deadletter.Discarded{At: time.Now(), Reason: "a test"}); err != nil {
				w.t.Fatal(err)
			}
		}},
	}
	w := newWorld(t).withStreams()
	changes := w.webhooks()
	letters := map[string]string{} // test by the webhook that it is about
	for name, tt := range tests {
		c := changes[len(letters)]
		letters[c.DeliveryID] = name
		w.unseen(`DELETE FROM events WHERE MINE AND event_id = $1`, c.DeliveryID)
		if seq := w.bury(triggerOf(c), trigger(c), tt.change); tt.after != nil {
			tt.after(w, seq)
		}
	}
	v, after := w.verdictOf(false), w.verdict()
	for id, name := range letters {
		tt := tests[name]
		about := func(text string) bool { return strings.HasPrefix(text, id) }
		if lost := slices.ContainsFunc(v.Undelivered, about); lost != tt.lost {
			t.Errorf("%s: lost %t, want %t", name, lost, tt.lost)
		}
		if waits := slices.ContainsFunc(after.Waiting, about); waits == tt.lost {
			t.Errorf("%s: waits after all were replayed %t, want %t", name, waits, !tt.lost)
		}
		lacks := slices.ContainsFunc(v.Contextless, func(text string) bool {
			return strings.Contains(text, id) && strings.HasSuffix(text, "lacks "+tt.lacks)
		})
		if want := tt.lacks != ""; lacks != want {
			t.Errorf("%s: told to lack %q %t, want %t: %q", name, tt.lacks, lacks, want, v.Contextless)
		}
	}
	excused := 0
	for _, tt := range tests {
		if !tt.lost {
			excused++
		}
	}
	if len(v.Waiting) > 0 {
		t.Errorf("waiting before any was to be replayed: %q", v.Waiting)
	}
	if v.Letters != len(tests) || v.DeadLettered != excused {
		t.Errorf("%d letters, of which %d stand for a webhook; want %d and %d", v.Letters, v.DeadLettered, len(tests), excused)
	}
}

// What waits for an operator is not lost before the source has healed: what it
// refuses to show, and what a dead letter says.
func TestWhatWaitsForAnOperatorIsNotLostYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withStreams()
	var gone, shown, listed simulator.Change
	for _, c := range w.webhooks() {
		switch {
		case c.Deleted:
			gone = c
		case w.newest[c.RecordID].Deleted:
		case listed.RecordID == "" || listed.RecordID == c.RecordID:
			listed = c
		default:
			shown = c
		}
	}
	w.unseen(`DELETE FROM events WHERE MINE AND event_id = $1`, gone.DeliveryID)
	w.unseen(`UPDATE records SET deleted = false, deleted_at = NULL WHERE MINE AND record_id = $1`, gone.RecordID)
	w.unseen(`DELETE FROM events WHERE MINE AND record_id = $1`, shown.RecordID)
	w.unseen(`DELETE FROM records WHERE MINE AND record_id = $1`, shown.RecordID)
	w.bury(triggerOf(gone), trigger(gone), func(*deadletter.Letter) {})
	w.unseen(`DELETE FROM records WHERE MINE AND record_id = $1`, listed.RecordID)
	e := eventOf(listed)
	e.ID, e.DeliveryID, e.Origin = "reconcile:order:"+listed.RecordID, "", event.Reconcile
	w.bury(e, "{}", func(*deadletter.Letter) {})
	w.book.Changes = slices.Clone(w.book.Changes)
	for i := range w.book.Changes {
		c := &w.book.Changes[i]
		c.Poisoned = c.RecordID == shown.RecordID
	}
	if err := w.verdictOf(false).Err(); err != nil {
		t.Errorf("before it has healed: %v", err)
	}
	v := w.verdict()
	if len(v.Lost) != 3 {
		t.Errorf("afterwards, lost %q, want the three records", v.Lost)
	}
	if len(v.Waiting) != 1 || !strings.HasPrefix(v.Waiting[0], gone.DeliveryID) {
		t.Errorf("afterwards, waiting %q, want %s", v.Waiting, gone.DeliveryID)
	}
}

// webhooks are the changes that webhooks told of.
func (w *world) webhooks() (changes []simulator.Change) {
	for _, c := range w.book.Changes {
		if !c.Dropped {
			changes = append(changes, c)
		}
	}
	return changes
}

// A message that was removed before it was delivered is a loss which its stream
// doesn't tell of.
func TestAMessageThatWasRemovedIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withStreams()
	w.unseen(`DELETE FROM events WHERE MINE AND event_id = $1`, w.older.DeliveryID)
	for _, stream := range []string{topology.StreamRaw, topology.StreamEnriched} {
		for m, err := range consume.Scan(t.Context(), w.js, consume.ScanOptions{Stream: stream}) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Header.Get(event.HeaderDeliveryID) != w.older.DeliveryID {
				continue
			}
			s, err := w.js.Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), m.Sequence); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := faults(w.verdict()); len(got) != 1 || len(got["undelivered"]) != 1 {
		t.Errorf("faults %v, want one undelivered", got)
	}
}

// A big letter leaves its payload where it was, which says all as well.
func TestALetterMayLeaveItsPayloadInTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withStreams()
	w.unseen(`DELETE FROM events WHERE MINE AND event_id = $1`, w.older.DeliveryID)
	e := eventOf(w.older)
	e.Resource, e.RecordID, e.Version, e.ObservedAt = "", "", "", time.Time{}
	e.ID += "-again"
	body := trigger(w.older) + strings.Repeat(" ", int(w.js.Conn().MaxPayload())-800)
	m := nats.NewMsg(e.RawSubject())
	m.Header, m.Data = e.Header(), []byte(body)
	ack, err := w.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(e.MsgID()))
	if err != nil {
		t.Fatal(err)
	}
	w.bury(e, body, func(l *deadletter.Letter) { l.OriginalSequence = ack.Sequence })
	if v := w.verdictOf(false); v.Err() != nil || v.DeadLettered != 1 {
		t.Errorf("%d dead-lettered, %v", v.DeadLettered, v.Err())
	}
}

func TestWatchBeginsBeforeTheFirstEffect(t *testing.T) {
	t.Parallel()
	w := &world{t: t, source: "orders"}
	w.open(newDatabase(t, pgtest.Name()))
	for _, step := range []struct {
		query string
		want  error
	}{
		{"SELECT", proof.ErrNoTables},
		{tables, nil},
		{"SELECT", nil}, // again
		{`INSERT INTO records(source, account, resource, record_id, deleted, event_id, written_at) VALUES ('orders', '_', 'order', '1', true, 'e', now());
			DROP SCHEMA proof CASCADE`, proof.ErrTooLate},
	} {
		w.exec(step.query)
		if err := w.far.Watch(t.Context()); !errors.Is(err, step.want) {
			t.Errorf("after %.40s: Watch() = %v, want %v", step.query, err, step.want)
		}
	}
}
