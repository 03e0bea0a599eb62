package ingress

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
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
	return in.each("event type", func(it *item) error {
		typ, err := in.attribute(in.typ, it)
		if err != nil {
			return err
		}
		it.event.Type = typ
		it.event.Source, it.event.Account, it.event.Origin = in.route.name, in.account, event.Webhook
		it.event.ReceivedAt, it.event.Request = in.now, in.requestID
		return nil
	})
}

func (in *inspection) typeDetail() string {
	return in.detailOf(func(it *item) string { return strconv.Quote(it.event.Type) })
}

func (in *inspection) readID() *refusal {
	var same map[string]int // events without an id of their own that the request has had
	if !in.isWhole() {
		same = map[string]int{}
	}
	return in.each("event id", func(it *item) error {
		switch {
		case in.route.source.Event.Repeats == provider.RepeatsNever:
			it.event.ID = nuid.Next()
		case len(in.id) > 0:
			id, err := in.attribute(in.id, it)
			if err != nil {
				return err
			}
			it.event.DeliveryID = id
			if it.event.ID = id; id == "" || !in.route.idSigned {
				it.event.ID = event.Unsigned(id, in.signedHash(it))
			}
		default:
			// Of two events in one request that are the same to the byte, neither is
			// a repeat. Counted so, they have the same ids when the request comes again.
			it.event.ID = event.Unsigned("", in.signedHash(it))
			if same == nil {
				break
			}
			id := it.event.ID
			if same[id]++; same[id] > 1 {
				it.event.ID += "+" + strconv.Itoa(same[id])
			}
		}
		it.msgID = in.messageID(it)
		return nil
	})
}

// signedHash is the hash of what tells an event that has no id that is signed: its
// body, or what of that the signature vouches for. By another spelling of a captured
// form nobody makes a second event.
func (in *inspection) signedHash(it *item) [sha256.Size]byte {
	if in.route.signsForm && in.isWhole() {
		if form, ok := in.route.source.Verifier().SignedForm(in.signed()); ok {
			return sha256.Sum256([]byte(form))
		}
	}
	return it.hash()
}

func (in *inspection) idDetail() string {
	return in.detailOf(func(it *item) string {
		switch {
		case in.route.source.Event.Repeats == provider.RepeatsNever:
			return "one of our own, since no request repeats another"
		case it.event.DeliveryID == "":
			return "none configured; the body's hash serves"
		case in.route.idSigned:
			return strconv.Quote(it.event.DeliveryID) + ", which the signature covers"
		default:
			return strconv.Quote(it.event.DeliveryID) + ", which the signature doesn't cover; a part of the body's hash is added"
		}
	})
}

// readTime never refuses: a time that can't be read is one that wasn't said.
func (in *inspection) readTime() *refusal {
	if len(in.time) == 0 {
		return nil
	}
	for i := range in.items {
		if text, err := in.attribute(in.time, &in.items[i]); err == nil {
			in.items[i].event.Time = parseTime(text)
		}
	}
	return nil
}

func (in *inspection) timeDetail() string {
	return in.detailOf(func(it *item) string {
		if it.event.Time.IsZero() {
			return "not said"
		}
		return it.event.Time.UTC().Format(time.RFC3339Nano)
	})
}

// attribute returns what expr finds for an event.
func (in *inspection) attribute(expr provider.TriggerExpr, it *item) (string, error) {
	if in.isWhole() {
		return in.attributeOfRequest(expr)
	}
	return bounded(expr.First(field.Scope{Docs: map[string][]byte{"item": it.body}}))
}

// attributeOfRequest returns what expr finds in the request.
func (in *inspection) attributeOfRequest(expr provider.TriggerExpr) (string, error) {
	scope, err := in.scope(expr)
	if err != nil {
		return "", err
	}
	return bounded(expr.First(scope))
}

// bounded refuses a value that could be no attribute.
func bounded(v string, err error) (string, error) {
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

// scope is what expr may look into of the request. A header that is there
// twice is an error, since two readers could take two different values.
func (in *inspection) scope(expr provider.TriggerExpr) (field.Scope, error) {
	for i := range expr {
		if name := expr[i].Repeated(in.request.Header); name != "" {
			return field.Scope{}, fmt.Errorf("more than one header %s", name)
		}
	}
	if in.docs == nil {
		in.docs = map[string][]byte{}
	}
	if len(in.docs) == 0 {
		in.docs["body"] = in.body
	}
	if _, read := in.docs["form"]; !read && expr.Uses("form") {
		in.docs["form"] = in.form()
	}
	if in.header == nil {
		in.header = in.request.Header.Get // made once, since it is allocated
	}
	return field.Scope{Header: in.header, Docs: in.docs, Scan: in.scan}, nil
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

// parseTime returns the zero time for what is none, or stands for none, and for a year
// that RFC 3339 can't write.
func parseTime(text string) time.Time {
	t, ok := event.ParseTime(text)
	if !ok || t.Unix() == 0 || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
