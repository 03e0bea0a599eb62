package timeline

import (
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

// Query says whose timeline is wanted.
type Query struct {
	// ID is that of an event, the provider's of a delivery, or that of a record.
	// Required.
	ID string
	// By says which of them it is. Defaults to any.
	By By
	// Source, Account and Resource leave out others. They default to all.
	Source, Account, Resource string
	// Events is the most events that are followed, the newest of those found. 0
	// means 20, and there are never more than 200.
	Events int
}

// By is what an id is of.
type By string

// The kinds of ids, a closed set.
const (
	Any        By = ""
	ByEvent    By = "event"
	ByDelivery By = "delivery"
	ByRecord   By = "record"
)

// Values lists the kinds that can be named.
func (By) Values() []string { return []string{string(ByEvent), string(ByDelivery), string(ByRecord)} }

// State is where an event is on its way.
type State string

// The states, a closed set.
const (
	// UnderWay events are not through with a stage.
	UnderWay State = "under way"
	// DeadLettered events have a dead letter that nobody has dealt with.
	DeadLettered State = "dead-lettered"
	// Unknown events are neither of these as far as the index knows the streams,
	// which is not far enough to say that they are one of those below.
	Unknown State = "unknown"
	// Discarded events were given up, and the dead letter was marked as dealt with:
	// they did not get to all that want them.
	Discarded State = "discarded"
	// Dropped events were left out by the pipeline file.
	Dropped State = "dropped"
	// Done events are at every destination that wants them.
	Done State = "done"
	// Refused requests became no event.
	Refused State = "refused"
)

// Kind is what an [Entry] tells of.
type Kind string

// The kinds, in the order of an event's way; a closed set.
const (
	KindReceived   Kind = "received"      // a webhook came, or a run listed a record
	KindRefused    Kind = "refused"       // a request was not taken
	KindStored     Kind = "stored"        // the trigger is in TERCEL_RAW
	KindWaiting    Kind = "waiting"       // a stage isn't through with it, or it isn't known yet
	KindAttempted  Kind = "attempted"     // a stage tried it, and will again
	KindDropped    Kind = "dropped"       // nobody wants it, says the pipeline file
	KindFetched    Kind = "fetched"       // a record was got from the source
	KindEnriched   Kind = "enriched"      // the event is in TERCEL_ENRICHED
	KindDelivered  Kind = "delivered"     // a destination has it
	KindGivenUp    Kind = "given_up"      // a stage gave it up, no dead letter is found
	KindDeadLetter Kind = "dead_lettered" // there is one
	KindReplayed   Kind = "replayed"      // it was sent again
	KindReconciled Kind = "reconciled"    // a run compared the record
)

// Known says how an [Entry] is known.
type Known string

// The ways, a closed set.
const (
	// Recorded entries are what was written down when it happened.
	Recorded Known = "recorded"
	// Derived entries follow from something else, such as how far a consumer
	// has come; Text says from what.
	Derived Known = "derived"
)

// Timeline is all that is known of an event, or of the events of a record.
type Timeline struct {
	// ID is what was asked for.
	ID string `json:"id"`
	// State is that of the event which is the least far.
	State State `json:"state"`
	// Events are those that were found, the oldest first. There is none where
	// nothing was.
	Events []Event `json:"events"`
	// Entries are what happened, in the order of time.
	Entries []Entry `json:"entries"`
	// More says that there are older events or messages, which were left out.
	More bool `json:"more,omitzero"`
	// Coverage is how far the index knows the streams. Where it is behind one,
	// what is stored since may be missing here.
	Coverage []Coverage `json:"coverage"`
}

// Behind reports whether the index did not know all of the streams: that
// something was not found then says nothing.
func (t Timeline) Behind() bool {
	for _, c := range t.Coverage {
		if c.Behind() {
			return true
		}
	}
	return false
}

// Event is one event of a [Timeline].
type Event struct {
	ID         string `json:"id"`
	DeliveryID string `json:"delivery_id,omitzero"`
	Source     string `json:"source"`
	Account    string `json:"account"`
	Type       string `json:"type"`
	State      State  `json:"state"`
	// Records are those that it speaks of, as far as it was enriched.
	Records []Record `json:"records,omitempty"`
}

// Record is a record in the version in which an event has it.
type Record struct {
	Resource string        `json:"resource"`
	ID       string        `json:"id"`
	Version  event.Version `json:"version,omitzero"`
	Deleted  bool          `json:"deleted,omitzero"`
}

// Entry is one thing that happened.
type Entry struct {
	// At is when, or zero where only the order is known.
	At   time.Time `json:"at,omitzero"`
	Kind Kind      `json:"kind"`
	// Stage is ingress, enrich, deliver or reconcile.
	Stage string `json:"stage"`
	// Name is the source, the destination, or the resource of a run.
	Name string `json:"name,omitzero"`
	// Event is the event's ID, "" for what is of a record alone.
	Event string `json:"event,omitzero"`
	// Text says it in words, for people. It has no payload, but texts from
	// outside: what a destination answered, or an id. See package redact.
	Text string `json:"text"`
	// Known is how this is known.
	Known Known `json:"known"`
	// Stream and Sequence are the message that tells of it, if there is one.
	Stream   string `json:"stream,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
	// Attempt counts the tries of a stage from 1, or the requests that a fetch
	// took; 0 is not known, or none.
	Attempt int `json:"attempt,omitzero"`
	// Took is how long it took, in nanoseconds; 0 is not known.
	Took time.Duration `json:"took,omitzero"`
	// Status is the HTTP status of an answer, or 0.
	Status int `json:"status,omitzero"`
	// From says of a fetch where its answer came from.
	From event.FetchedFrom `json:"from,omitzero"`
	// Checks are what each check found, where the trigger says so.
	Checks []event.Verdict `json:"checks,omitempty"`
	// TraceID is the trace that it belongs to, or "".
	TraceID string `json:"trace_id,omitzero"`

	order time.Time // by which it is sorted
}
