package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Origin says how an event came into the pipeline.
type Origin string

// The origins, a closed set.
const (
	Webhook   Origin = "webhook"   // a provider's delivery
	Reconcile Origin = "reconcile" // found by listing the source's records
	Replay    Origin = "replay"    // a dead letter or an unfinished trigger, sent again
	Backfill  Origin = "backfill"  // listed by a run with an open start
)

// Header names. Those of CloudEvents follow its NATS binding (v1.0.2).
const (
	HeaderID              = "ce-id"
	HeaderSource          = "ce-source"
	HeaderType            = "ce-type"
	HeaderSubject         = "ce-subject"
	HeaderTime            = "ce-time"
	HeaderSpecVersion     = "ce-specversion"
	HeaderContentType     = "content-type"
	HeaderOrigin          = "tercel-origin"
	HeaderDeliveryID      = "tercel-delivery-id"
	HeaderReceivedAt      = "tercel-received-at"
	HeaderObservedAt      = "tercel-observed-at"
	HeaderResource        = "tercel-resource"
	HeaderVersion         = "tercel-version"
	HeaderDeleted         = "tercel-deleted"
	HeaderTriggerSequence = "tercel-trigger-sequence"
	HeaderPart            = "tercel-part"
	HeaderRequest         = "tercel-request"
	HeaderFetched         = "tercel-fetched"
	HeaderChecked         = "tercel-checked"
	HeaderReceived        = "tercel-received"
	HeaderReceivedHash    = "tercel-received-sha256"
	HeaderContentEncoding = "content-encoding" // of a stored request, see RequestSubject
	HeaderDestinations    = "tercel-destinations"
	HeaderEdited          = "tercel-edited"
	HeaderTraceParent     = "traceparent"
)

// NoAccount stands for the account of a source that has none.
const NoAccount = "_"

// Event is one event's attributes. Its body travels beside it.
type Event struct {
	// ID identifies the event within its source and account, for ever: a
	// provider's repeat and a replay have the same one. One ID has one body.
	ID string
	// DeliveryID is the provider's own id of the delivery as it sent it, or "".
	DeliveryID string
	// Source is the name of the source in the pipeline file.
	Source string
	// Account is the provider's tenant, or [NoAccount].
	Account string
	// Type is the event type in the provider's own spelling.
	Type string
	// Origin says how the event came in.
	Origin Origin
	// ContentType is the body's media type.
	ContentType string
	// Time is when the event happened by the provider's word, or zero.
	Time time.Time
	// ReceivedAt is when Tercel took the trigger in.
	ReceivedAt time.Time
	// Part is the event's place in a request that had several, such as "3/17",
	// or "".
	Part string
	// Request is the ID of the stored request, where the trigger's body isn't
	// what was received, byte for byte; see [Event.RequestSubject]. Else "".
	Request string

	// Resource is the name of the record's kind, or "" if the event speaks of
	// no resource. The fields below are set together with it.
	Resource string
	// RecordID is the record's id at the source.
	RecordID string
	// Version is the record's version, or "" on a tombstone.
	Version Version
	// ObservedAt is when the source showed the record (or that it is gone).
	ObservedAt time.Time
	// Deleted says that the source no longer has the record: a tombstone.
	Deleted bool
	// TriggerSequence is the sequence in TERCEL_RAW of the trigger that this
	// event answers, or 0. A trigger sent again keeps the sequence of the first.
	TriggerSequence uint64
	// Checked says of a trigger who took it in and how long its checks took, as
	// [Checked] writes it, or is "".
	Checked string
	// Received is what is kept of a trigger's request beside its body, as
	// [Received] writes it, or "".
	Received string
	// ReceivedHash is the SHA-256 in hex of a trigger's body as it was received,
	// where it is stored without what its source doesn't want to be, or "".
	ReceivedHash string
	// Fetched says of an enriched event how its records were got, as [Fetches]
	// writes it, or is "".
	Fetched string

	// Destinations are the names of the only ones that get the event, as a replay
	// chose them, joined by commas. If it is "", all that subscribe to it do.
	// Whoever reads the stream itself sees every event.
	Destinations string
	// Edited says that an operator changed the body of the original.
	Edited bool
}

// For reports whether a destination that subscribes to the event is to get it.
func (e Event) For(destination string) bool {
	if e.Destinations == "" {
		return true
	}
	for name := range strings.SplitSeq(e.Destinations, ",") {
		if name == destination {
			return true
		}
	}
	return false
}

// Header returns e as message headers, without Nats-Msg-Id and traceparent,
// which belong to the act of publishing. Values are encoded as the CloudEvents
// NATS binding says, so none can break out of its header.
func (e Event) Header() nats.Header {
	var f Form
	f.begin()
	f.fill(&e)
	return f.header
}

// FromHeader reads the attributes of a message that Tercel published. The
// error names every header that is missing or malformed; it means that the
// message was written by something else.
func FromHeader(h nats.Header) (Event, error) {
	r := headerReader{h: h}
	e := Event{
		ID:          r.must(HeaderID),
		DeliveryID:  r.text(HeaderDeliveryID),
		Type:        r.must(HeaderType),
		Origin:      Origin(r.must(HeaderOrigin)),
		ContentType: r.text(HeaderContentType),
		Time:        r.time(HeaderTime),
		ReceivedAt:  r.time(HeaderReceivedAt),
		Part:        r.text(HeaderPart),
		Request:     r.text(HeaderRequest),
		Resource:    r.text(HeaderResource),
		RecordID:    r.text(HeaderSubject),
		Version:     Version(r.text(HeaderVersion)),
		ObservedAt:  r.time(HeaderObservedAt),
		Deleted:     r.text(HeaderDeleted) == "true",
		Fetched:     r.text(HeaderFetched),
		Checked:     r.text(HeaderChecked),

		Received:     r.h.Get(HeaderReceived), // [ParseReceived] decodes it
		ReceivedHash: r.text(HeaderReceivedHash),
		Edited:       r.text(HeaderEdited) == "true",

		Destinations: r.text(HeaderDestinations),
	}
	var err error
	if e.Source, e.Account, err = parseSource(r.must(HeaderSource)); err != nil {
		r.errs = append(r.errs, err)
	}
	if s := r.text(HeaderTriggerSequence); s != "" {
		if e.TriggerSequence, err = strconv.ParseUint(s, 10, 64); err != nil {
			r.errs = append(r.errs, fmt.Errorf("header %s: want a number", HeaderTriggerSequence))
		}
	}
	return e, errors.Join(r.errs...)
}

// DeliveryIDOf returns the delivery id in a message's headers, or "".
func DeliveryIDOf(h nats.Header) string {
	id, err := decodeHeader(h.Get(HeaderDeliveryID))
	if err != nil {
		return ""
	}
	return id
}

type headerReader struct {
	h    nats.Header
	errs []error
}

func (r *headerReader) text(name string) string {
	v, err := decodeHeader(r.h.Get(name))
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("header %s: %w", name, err))
	}
	return v
}

func (r *headerReader) must(name string) string {
	v := r.text(name)
	if v == "" {
		r.errs = append(r.errs, fmt.Errorf("header %s: missing", name))
	}
	return v
}

func (r *headerReader) time(name string) time.Time {
	v := r.text(name)
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("header %s: want an RFC 3339 time", name))
	}
	return t
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
