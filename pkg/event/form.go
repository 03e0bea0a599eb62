package event

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
)

// Form is the headers of messages that are published one after the other. Each
// is filled in over the one before, which takes a fraction of the time that new
// headers take. The zero Form is ready to use, by one goroutine.
type Form struct {
	header nats.Header
	values [formPlaces][1]string // those in header, by the order of fill
	n      int                   // headers that are filled in
	traced bool

	source, account, about string // ce-source of the last event
}

// Places in a form.
const (
	formMsgID = iota
	formTraceParent
	formEvent  // the first of an event's own
	formPlaces = formEvent + 23
)

// headers is how many a message mostly has, those of its publication included.
const headers = 14

// Publication returns the headers under which e is published: those of
// [Event.Header], with msgID and the trace of ctx. They are the form's, until the
// next call. Others may be added to them meanwhile, and will be gone; those that
// are there must stay as they are.
func (f *Form) Publication(ctx context.Context, e *Event, msgID string) nats.Header {
	if f.header == nil || len(f.header) != f.n {
		f.begin()
	}
	f.fill(e)
	f.set(formMsgID, nats.MsgIdHdr, msgID)
	f.traced = false
	otel.GetTextMapPropagator().Inject(ctx, (*formCarrier)(f))
	if !f.traced {
		f.set(formTraceParent, HeaderTraceParent, "")
	}
	return f.header
}

// begin makes a blank form of it.
func (f *Form) begin() {
	f.header, f.n, f.values = make(nats.Header, headers), 0, [formPlaces][1]string{}
}

// fill sets each header of an event, also those that it doesn't have.
func (f *Form) fill(e *Event) {
	if f.about == "" || f.source != e.Source || f.account != e.Account {
		f.source, f.account, f.about = e.Source, e.Account, "/sources/"+e.Source+"/"+Escape(e.Account)
	}
	sequence := ""
	if e.TriggerSequence > 0 {
		sequence = strconv.FormatUint(e.TriggerSequence, 10)
	}
	place := formEvent
	set := func(name, value string) {
		f.set(place, name, value)
		place++
	}
	set(HeaderSpecVersion, "1.0")
	set(HeaderID, encodeHeader(e.ID))
	set(HeaderSource, encodeHeader(f.about))
	set(HeaderType, encodeHeader(e.Type))
	set(HeaderSubject, encodeHeader(e.RecordID))
	set(HeaderTime, formatTime(e.Time))
	set(HeaderContentType, encodeHeader(e.ContentType))
	set(HeaderOrigin, encodeHeader(string(e.Origin)))
	set(HeaderDeliveryID, encodeHeader(e.DeliveryID))
	set(HeaderReceivedAt, formatTime(e.ReceivedAt))
	set(HeaderPart, encodeHeader(e.Part))
	set(HeaderRequest, encodeHeader(e.Request))
	set(HeaderObservedAt, formatTime(e.ObservedAt))
	set(HeaderResource, encodeHeader(e.Resource))
	set(HeaderVersion, encodeHeader(string(e.Version)))
	set(HeaderFetched, encodeHeader(e.Fetched))
	set(HeaderChecked, encodeHeader(e.Checked))
	set(HeaderReceived, e.Received)
	set(HeaderReceivedHash, e.ReceivedHash)
	set(HeaderDeleted, formatFlag(e.Deleted))
	set(HeaderTriggerSequence, sequence)
	set(HeaderDestinations, encodeHeader(e.Destinations))
	set(HeaderEdited, formatFlag(e.Edited))
}

func formatFlag(yes bool) string {
	if yes {
		return "true"
	}
	return ""
}

// set fills in one header, or takes it out if value is empty.
func (f *Form) set(place int, name, value string) {
	old := f.values[place][0]
	f.values[place][0] = value
	switch {
	case old == "" && value != "":
		f.header[name] = f.values[place][:]
		f.n++
	case old != "" && value == "":
		delete(f.header, name)
		f.n--
	}
}

// formCarrier is a form that a trace is written into.
type formCarrier Form

// Get returns a header.
func (c *formCarrier) Get(key string) string { return carrier(c.header).Get(key) }

// Keys returns the names of all headers.
func (c *formCarrier) Keys() []string { return carrier(c.header).Keys() }

// Set sets a header. Those that no form has are gone with the next event.
func (c *formCarrier) Set(key, value string) {
	if key != HeaderTraceParent {
		carrier(c.header).Set(key, value)
		return
	}
	(*Form)(c).set(formTraceParent, key, value)
	c.traced = true
}
