package ingress

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// maxAttribute bounds an event's type and id, in bytes. Both become headers of
// the message, three times as long if every byte has to be escaped.
const maxAttribute = 1024

func (in *inspection) readType() *refusal {
	typ, err := in.attribute(in.route.source.Event.Type)
	if err != nil {
		return badAttribute("event type", err)
	}
	in.event = event.Event{
		Source: in.route.name, Account: in.account, Type: typ, Origin: event.Webhook,
		ContentType: in.contentType, ReceivedAt: in.now,
	}
	return nil
}

func (in *inspection) readID() *refusal {
	if in.route.source.Event.Repeats == provider.RepeatsNever {
		in.event.ID = nuid.Next()
		return nil
	}
	if len(in.route.source.Event.ID) > 0 {
		id, err := in.attribute(in.route.source.Event.ID)
		if err != nil {
			return badAttribute("event id", err)
		}
		in.event.DeliveryID = id
	}
	in.event.ID = event.Identity(in.event.DeliveryID, in.route.idSigned, in.body)
	return nil
}

func (in *inspection) idDetail() string {
	switch {
	case in.route.source.Event.Repeats == provider.RepeatsNever:
		return "one of our own, since no request repeats another"
	case in.event.DeliveryID == "":
		return "none configured; the body's hash serves"
	case in.route.idSigned:
		return strconv.Quote(in.event.DeliveryID) + ", which the signature covers"
	default:
		return strconv.Quote(in.event.DeliveryID) + ", which the signature doesn't cover; a part of the body's hash is added"
	}
}

// readTime never refuses: a time that can't be read is one that wasn't said.
func (in *inspection) readTime() *refusal {
	if len(in.route.source.Event.Time) == 0 {
		return nil
	}
	if text, err := in.attribute(in.route.source.Event.Time); err == nil {
		in.event.Time = parseTime(text)
	}
	return nil
}

func (in *inspection) timeDetail() string {
	if in.event.Time.IsZero() {
		return "not said"
	}
	return in.event.Time.UTC().Format(time.RFC3339Nano)
}

func badAttribute(what string, err error) *refusal {
	text := what + ": " + err.Error()
	return &refusal{status: http.StatusBadRequest, outcome: refusedStructure, text: text, reason: text}
}

// attribute returns what expr finds in the request. A header that is there
// twice is an error, since two readers could take two different values.
func (in *inspection) attribute(expr provider.TriggerExpr) (string, error) {
	for _, e := range expr {
		for name := range e.Headers() {
			if len(in.request.Header.Values(name)) > 1 {
				return "", fmt.Errorf("more than one header %s", name)
			}
		}
	}
	docs := map[string][]byte{"body": in.body}
	if expr.Uses("form") {
		docs["form"] = in.form()
	}
	v, err := expr.First(field.Scope{Header: in.request.Header.Get, Docs: docs})
	switch {
	case err != nil:
		return "", err
	case len(v) > maxAttribute:
		return "", fmt.Errorf("%d bytes, want at most %d", len(v), maxAttribute)
	case !utf8.ValidString(v):
		return "", fmt.Errorf("not UTF-8")
	}
	return v, nil
}

// form returns the fields of a form as a JSON document. Those that are there
// more than once or aren't UTF-8 are left out, so that whoever needs one finds
// none.
func (in *inspection) form() []byte {
	if in.mediaType != mediaTypeForm {
		return nil
	}
	values, err := url.ParseQuery(string(in.body))
	if err != nil {
		return nil
	}
	fields := map[string]string{}
	for name, v := range values {
		if len(v) == 1 && utf8.ValidString(name) && utf8.ValidString(v[0]) {
			fields[name] = v[0]
		}
	}
	doc, err := json.Marshal(fields)
	if err != nil { // strings always can be
		return nil
	}
	return doc
}

// Magnitudes of Unix times. A number below firstMillisecond is in seconds, up
// to the year 5138; from there on it is in milliseconds, which begin in 1973.
const (
	firstMillisecond = 100_000_000_000
	lastMillisecond  = 100_000_000_000_000
)

// parseTime reads an RFC 3339 time or Unix seconds or milliseconds. It returns
// the zero time for anything else, and for a year that RFC 3339 can't write.
func parseTime(text string) time.Time {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch {
		case n <= 0 || n >= lastMillisecond:
			return time.Time{}
		case n >= firstMillisecond:
			return time.UnixMilli(n).UTC()
		default:
			return time.Unix(n, 0).UTC()
		}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if t = t.UTC(); err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
