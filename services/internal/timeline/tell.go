package timeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/outcome"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Stages of a way beside those of package topology.
const (
	stageIngress   = "ingress"
	stageReconcile = "reconcile"
)

// tell makes the timeline of what was read.
func (t *tracer) tell() {
	for _, m := range t.all {
		w := t.wayOf(m)
		switch {
		case m.Stream == topology.StreamReports:
			t.tellReport(m)
		case m.Stream == topology.StreamRefused:
			t.tellRefused(m)
		case strings.HasPrefix(m.Subject, event.PrefixRequests+"."):
			t.tellRequest(m)
		case w == nil:
		case strings.HasPrefix(m.Subject, event.PrefixDropped+"."):
			w.see(m.Event)
			w.dropped++
			t.add(w, m, Entry{
				Kind: KindDropped, Stage: topology.StageEnrich, Name: m.Event.Source,
				Text: "dropped: the pipeline file says so at sources." + m.Event.Source + ".drop",
			})
		case m.Stream == topology.StreamRaw:
			t.tellTrigger(w, m)
		case m.Stream == topology.StreamEnriched:
			t.tellEvent(w, m)
		}
	}
	t.tellOtherLetters()
	t.settle()
	slices.SortStableFunc(t.out.Entries, func(a, b Entry) int { return a.order.Compare(b.order) })
}

// see notes what a message says of its event.
func (w *way) see(e event.Event) {
	if w.event.ID == "" {
		w.event = Event{ID: w.id, DeliveryID: e.DeliveryID, Source: e.Source, Account: e.Account, Type: e.Type}
	}
	if e.RecordID == "" {
		return
	}
	r := Record{Resource: e.Resource, ID: e.RecordID, Version: e.Version, Deleted: e.Deleted}
	if !slices.Contains(w.event.Records, r) {
		w.event.Records = append(w.event.Records, r)
	}
}

// add adds an entry that a message tells of.
func (t *tracer) add(w *way, m Message, e Entry) {
	e.Event, e.Stream, e.Sequence, e.TraceID, e.Known = w.id, m.Stream, m.Sequence, TraceID(m.Header), Recorded
	if e.At.IsZero() {
		e.At = m.StoredAt
	}
	e.order = e.At
	t.out.Entries = append(t.out.Entries, e)
}

func (t *tracer) tellTrigger(w *way, m Message) {
	e := m.Event
	w.see(e)
	stored := Entry{Kind: KindStored, Stage: stageIngress, Name: e.Source, Text: "stored as " + e.Type}
	switch e.Origin {
	case event.Webhook:
		t.add(w, m, Entry{
			Kind: KindReceived, Stage: stageIngress, Name: e.Source, At: e.ReceivedAt, Took: max(0, m.StoredAt.Sub(e.ReceivedAt)),
			Text: "received, and every check passed" + checkedBy(e), Checks: verdicts(e),
		})
	case event.Replay:
		stored = Entry{Kind: KindReplayed, Stage: stageIngress, Name: e.Source, Text: "sent again, origin replay, as " + e.Type}
		if c, err := event.ParseChecked(e.Checked); err == nil && c.Again {
			stored.Text, stored.Checks = stored.Text+", after its request was checked again"+checkedBy(e), verdicts(e)
		}
	default:
		run, _ := strings.CutPrefix(m.Header.Get(jetstream.MsgIDHeader), e.MsgID()+":")
		stored.Stage, stored.Name = stageReconcile, e.Resource
		why := "the source listed it, and this version wasn't seen"
		if e.Deleted {
			why = "it was held, and the source no longer has it"
		}
		stored.Text = fmt.Sprintf("sent in by %s run %s: %s", e.Origin, run, why)
	}
	if e.Part != "" {
		stored.Text += fmt.Sprintf(", part %s of %s", e.Part, e.Request)
	}
	t.add(w, m, stored)
	t.outcome(w, m, topology.EnrichDurable(e.Source))
}

// checkedBy says who took a trigger in, how long its checks took and what they
// found.
func checkedBy(e event.Event) string {
	c, err := event.ParseChecked(e.Checked)
	if err != nil {
		return ""
	}
	text := fmt.Sprintf(" in %s at %s", c.Took, cmp.Or(c.By, "a host without a name"))
	if c.Read > 0 {
		text += fmt.Sprintf(" (%s until its body had come)", c.Read)
	}
	var found []string
	for _, v := range c.Verdicts() {
		one := v.Check
		if v.Result != event.Passed {
			one += " " + string(v.Result)
		}
		found = append(found, one+" ("+v.Detail+")")
	}
	if len(found) > 0 {
		text += ": " + strings.Join(found, ", ")
	}
	return text
}

// verdicts are what the checks of a trigger found, as far as it says so.
func verdicts(e event.Event) []event.Verdict {
	c, err := event.ParseChecked(e.Checked)
	if err != nil {
		return nil
	}
	return c.Verdicts()
}

func (t *tracer) tellRequest(m Message) {
	for _, w := range t.ways {
		for _, of := range t.all {
			if of.Stream == topology.StreamRaw && of.Event.Request == m.Event.ID && m.Event.Source == w.source && t.wayOf(of) == w {
				t.add(w, m, Entry{
					Kind: KindStored, Stage: stageIngress, Name: m.Event.Source, Text: "the request is stored as it was received",
				})
				break
			}
		}
	}
}

func (t *tracer) tellEvent(w *way, m Message) {
	e := m.Event
	w.see(e)
	w.enriched++
	t.tellFetches(w, m)
	made := Entry{Kind: KindEnriched, Stage: topology.StageEnrich, Name: e.Source}
	switch {
	case e.Deleted:
		made.Text = fmt.Sprintf("%s %s is gone at the source", e.Resource, e.RecordID)
	case e.Resource == "":
		made.Text = "no resource speaks of it"
	default:
		made.Text = fmt.Sprintf("%s %s, version %s", e.Resource, e.RecordID, cmp.Or(string(e.Version), "-"))
	}
	if e.Origin == event.Replay && !t.triggered(m) {
		made.Kind, made.Stage, made.Name = KindReplayed, topology.StageDeliver, ""
		made.Text = "sent to the destinations again: " + made.Text
	}
	t.add(w, m, made)
	for _, durable := range slices.Sorted(maps.Keys(t.consumers)) {
		stage, destination, ok := topology.Stage(durable)
		if ok && stage == topology.StageDeliver && e.For(destination) && topology.Takes(t.consumers[durable].Config, m.Subject) {
			t.outcome(w, m, durable)
		}
	}
}

// fetchedFrom says in words where an answer came from.
var fetchedFrom = map[event.FetchedFrom]string{
	event.FromSource: "asked for", event.FromUnchanged: "asked for, and unchanged since it was asked before",
	event.FromShared: "asked for together with another event", event.FromCache: "from the cache",
}

// tellFetches adds how the records of an event were got.
func (t *tracer) tellFetches(w *way, m Message) {
	all, err := event.ParseFetches(m.Event.Fetched)
	if err != nil {
		return // of a later version
	}
	for _, f := range all {
		text := fmt.Sprintf("%s: %d, %s", f.Name, f.Status, fetchedFrom[f.From])
		if f.Tries > 1 {
			text += fmt.Sprintf(", in %d requests", f.Tries)
		}
		e := Entry{
			Kind: KindFetched, Stage: topology.StageEnrich, Name: m.Event.Source, Text: text,
			Status: f.Status, Attempt: f.Tries, Took: f.Took, From: f.From,
		}
		if f.Name == "record" {
			e.At = m.Event.ObservedAt
		}
		t.add(w, m, e)
		t.out.Entries[len(t.out.Entries)-1].order = m.StoredAt
	}
}

// triggered reports whether an event that was sent again was made of a trigger
// that was: it has that one's message id.
func (t *tracer) triggered(m Message) bool {
	id := m.Header.Get(jetstream.MsgIDHeader)
	return slices.ContainsFunc(t.all, func(o Message) bool {
		of := o.Header.Get(jetstream.MsgIDHeader)
		return o.Stream == topology.StreamRaw && o.Event.Origin == event.Replay && (id == of || strings.HasPrefix(id, of+":"))
	})
}

// outcome adds what became of a message at one consumer.
func (t *tracer) outcome(w *way, m Message, durable string) {
	at := place{m.Stream, durable, m.Sequence}
	stage, name, _ := topology.Stage(durable)
	done, gaveUp := t.tellTries(w, m, durable)
	if l, ok := t.letters[at]; ok {
		delete(t.letters, at)
		t.tellLetter(w, l)
		return
	}
	e := Entry{Stage: stage, Name: name, Event: w.id, Known: Derived, order: m.StoredAt}
	e.Kind, e.Text = t.at(at)
	p := passage{durable, m.Event.ID}
	switch {
	case done != nil: // also where it is behind one that is not
		e.tried(done)
		e.Kind, e.Text = KindDelivered, fmt.Sprintf("delivered at try %d", done.Attempt)
	case gaveUp != nil && e.Kind != KindGivenUp: // its letter is yet to be made, or has left its stream
		e.tried(gaveUp)
		e.Kind, e.Text = KindGivenUp, fmt.Sprintf("given up at try %d %s; no dead letter of it is found", gaveUp.Attempt, t.why(m, gaveUp))
		w.givenUp[p] = m.Sequence
	case e.Kind != KindDelivered:
		w.waiting++
	case stage == topology.StageDeliver && t.behind(topology.StreamDLQ, topology.StreamOutcomes):
		e.Kind, e.Text = KindWaiting, "done with; whether delivered or given up isn't known before the index has read on"
	}
	if e.Kind == KindDelivered {
		w.through[p] = m.Sequence
		if stage != topology.StageDeliver {
			return // the event, or that it was dropped, says so
		}
	}
	t.out.Entries = append(t.out.Entries, e)
}

// tried notes the try that an entry is known by.
func (e *Entry) tried(r *outcome.Record) {
	e.Known, e.At, e.order, e.Attempt, e.Took = Recorded, r.At, r.At, r.Attempt, r.Took
}

// tellTries adds the tries that failed, and returns those that ended it, if they
// are noted: the one that did not fail, and the one at which it was given up.
func (t *tracer) tellTries(w *way, m Message, durable string) (done, gaveUp *outcome.Record) {
	stage, name, _ := topology.Stage(durable)
	for _, r := range t.tries[place{m.Stream, durable, m.Sequence}] {
		switch r.Outcome {
		case consume.Acked:
			done = &r
			continue
		case consume.Terminated:
			gaveUp = &r // its dead letter says more, if there is one
			continue
		}
		e := Entry{Kind: KindAttempted, Stage: stage, Name: name, Event: w.id, Text: fmt.Sprintf("try %d failed %s", r.Attempt, t.why(m, &r))}
		e.tried(&r)
		t.out.Entries = append(t.out.Entries, e)
	}
	return done, gaveUp
}

// why says why a try failed.
func (t *tracer) why(m Message, r *outcome.Record) string {
	text := fmt.Sprintf("(%s): %s", r.Class, t.rules.Of(m.Event.Source).Show(m.Subject, m.Event, m.Data).Text(r.Message))
	if r.Left > 0 {
		text += fmt.Sprintf("; %d tries before it, of any event, were too many to be noted", r.Left)
	}
	return text
}

func (t *tracer) tellLetter(w *way, l deadletter.Letter) {
	switch l.State {
	case deadletter.StateOpen:
		w.dead++
	case deadletter.StateDiscarded:
		p := passage{l.Consumer, l.Event.ID}
		w.discarded[p] = max(w.discarded[p], l.OriginalSequence)
	}
	attempts := fmt.Sprint(l.Reason.Attempts, " attempts")
	if l.Reason.Attempts == 1 {
		attempts = "1 attempt"
	}
	t.out.Entries = append(t.out.Entries, Entry{
		Kind: KindDeadLetter, Stage: l.Stage, Name: l.Name, Event: w.id, At: l.DeadAt, order: l.DeadAt, Known: Recorded,
		Stream: topology.StreamDLQ, Sequence: l.Sequence, TraceID: l.Reason.TraceID, Attempt: l.Reason.Attempts,
		Text: fmt.Sprintf("dead letter (%s) after %s: %s [%s]", l.Reason.Class, attempts, l.Reason.Message, l.State),
	})
}

// tellOtherLetters adds the dead letters of messages that their streams no
// longer have.
func (t *tracer) tellOtherLetters() {
	for _, l := range t.letters {
		if w := t.wayOf(Message{Event: l.Event}); w != nil {
			w.see(l.Event)
			t.tellLetter(w, l)
		}
	}
}

// tellRefused adds a request that was refused: it claims to be of an event, or was
// asked for itself.
func (t *tracer) tellRefused(m Message) {
	r, ok := refusedIn(m)
	if !ok {
		return
	}
	of := ""
	for _, w := range t.ways {
		if w.source == r.Source && w.account == r.Account && r.ClaimedID != "" && (r.ClaimedID == w.id || r.ClaimedID == w.event.DeliveryID) {
			of = w.id
		}
	}
	if of == "" && !t.q.isRefused(r) {
		return
	}
	check := r.Check
	if r.Step != "" {
		check += ", " + r.Step
	}
	t.out.Entries = append(t.out.Entries, Entry{
		Kind: KindRefused, Stage: stageIngress, Name: r.Source, Event: of, At: r.At, order: r.At, Known: Recorded,
		Stream: m.Stream, Sequence: m.Sequence, Status: r.Status,
		Text: fmt.Sprintf("refused with %d by check %s: %s (request %s)", r.Status, check, r.Reason, r.RequestID),
	})
}

// tellReport adds what a reconciliation run found of a record.
func (t *tracer) tellReport(m Message) {
	r, ok := reportOf(m)
	if !ok {
		return
	}
	wanted := t.records()
	for _, rec := range r.Records {
		of := wanted[recordKey{r.Source, r.Account, r.Resource, rec.ID}]
		if !of && (rec.ID != t.q.ID || !t.q.isReport(r)) {
			continue
		}
		t.out.Entries = append(t.out.Entries, Entry{
			Kind: KindReconciled, Stage: stageReconcile, Name: r.Resource, Known: Recorded, Stream: m.Stream, Sequence: m.Sequence,
			At: cmp.Or(rec.FirstSeen, r.EndedAt), order: cmp.Or(rec.FirstSeen, r.EndedAt), Text: verdict(r, rec),
		})
	}
}

func verdict(r report.Report, rec report.Record) string {
	text := fmt.Sprintf("%s %s: %s in version %s, says run %s", r.Resource, rec.ID, rec.Verdict, cmp.Or(rec.Version, "-"), r.Run)
	if rec.Destination != "" {
		text += ", at destination " + rec.Destination
	}
	if rec.Cause != "" {
		text += "; cause: " + string(rec.Cause)
	}
	switch {
	case rec.Repaired:
		text += "; sent in again"
	case r.DryRun:
		text += "; left so by a dry run"
	}
	return text
}

// settle says where the events are.
func (t *tracer) settle() {
	if len(t.ways) == 0 && len(t.out.Entries) > 0 && t.out.Entries[0].Kind == KindRefused {
		t.out.State = Refused
	}
	rank := []State{Done, Dropped, Discarded, Unknown, DeadLettered, UnderWay}
	for _, w := range t.ways {
		switch {
		case w.waiting > 0 || w.lost(w.givenUp):
			w.event.State = UnderWay
		case w.dead > 0:
			w.event.State = DeadLettered
		case t.behind(eventStreams...): // which may have what is against all that follows
			w.event.State = Unknown
		case w.lost(w.discarded):
			w.event.State = Discarded
		case w.dropped > 0 && w.enriched == 0:
			w.event.State = Dropped
		default:
			w.event.State = Done
		}
		if w.event.ID != "" {
			t.out.Events = append(t.out.Events, w.event)
		}
		if t.out.State == "" || slices.Index(rank, w.event.State) > slices.Index(rank, t.out.State) {
			t.out.State = w.event.State
		}
	}
}
