package ingress

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/provider"
)

// outcome is what became of a request, a closed set.
type outcome string

const (
	accepted         outcome = "accepted"
	duplicate        outcome = "duplicate"
	shaken           outcome = "handshake" // answered and not stored
	empty            outcome = "empty"     // well, but there was no event in it
	refusedOrigin    outcome = "refused_origin"
	refusedSignature outcome = "refused_signature"
	refusedStructure outcome = "refused_structure"
	refusedSize      outcome = "refused_size"
	refusedSchema    outcome = "refused_schema"
	refusedType      outcome = "refused_type"
	refusedRate      outcome = "refused_rate"
	unavailable      outcome = "unavailable"
	keyUnavailable   outcome = "key_unavailable" // of the sender, which isn't to be had now
	unknownSource    outcome = "unknown_source"
	failed           outcome = "failed" // a fault of ours
)

var outcomes = []outcome{
	accepted, duplicate, shaken, empty, refusedOrigin, refusedSignature, refusedStructure, refusedSize, refusedSchema, refusedType, refusedRate,
	unavailable, keyUnavailable, unknownSource, failed,
}

func outcomeNames() []string {
	names := make([]string, len(outcomes))
	for i, o := range outcomes {
		names[i] = string(o)
	}
	return names
}

// refusal says why a request wasn't taken, once for its sender and once for us.
type refusal struct {
	status     int
	outcome    outcome
	text       string        // what the sender is told
	reason     string        // what operators are told, without secrets and payload; "" is not worth a line
	retryAfter time.Duration // 0 for what a repeat won't change
	header     string        // one more header of the answer, or ""
	value      string
	check      string // the check that refused
	step       string // of the signature, where that was it
}

// result is what became of a request.
type result struct {
	outcome   outcome
	eventID   string            // of an accepted or duplicate event
	events    int               // that the request holds, where it can have several
	refused   *refusal          // else
	handshake string            // its name, where it was one
	reply     provider.Answer   // what the source wants instead of our own answer to an accepted event or handshake
	header    map[string]string // more of what it wants
}

func (r result) status() int {
	if r.refused != nil {
		return r.refused.status
	}
	return okStatus(r.reply)
}

// okStatus is the status that answers an accepted event.
func okStatus(reply provider.Answer) int {
	if reply.Status != 0 {
		return reply.Status
	}
	return http.StatusOK
}

// Values of headers that are the same in all answers, made once. They must not
// be changed.
var (
	noStore  = []string{"no-store"}
	noSniff  = []string{"nosniff"}
	jsonType = []string{mediaTypeJSON}
)

func (r result) write(w http.ResponseWriter, requestID string) {
	h := w.Header()
	if r.refused != nil || r.reply.Status != 0 {
		// An accepted event's sender looks at no more than status and body, and each
		// header takes time.
		h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
		h["X-Request-Id"] = []string{requestID}
	}
	if r.refused == nil && r.reply.Status != 0 {
		r.prescribed(w)
		return
	}
	h["Content-Type"] = jsonType
	if no := r.refused; no != nil {
		if no.header != "" {
			h.Set(no.header, no.value)
		}
		if no.retryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(seconds(no.retryAfter)))
		}
	}
	w.WriteHeader(r.status())
	_, _ = w.Write(r.body(requestID)) // a sender that has gone can't be told so
}

// body is what every answer says but those that a source prescribes. net/http
// counts its bytes.
func (r result) body(requestID string) []byte {
	b := append(make([]byte, 0, 160), '{')
	member := func(name, value string) {
		if value != "" {
			b = append(append(append(b, '"'), name...), `":`...)
			b, _ = jsontext.AppendQuote(b, value) // what isn't UTF-8 is replaced
			b = append(b, ',')
		}
	}
	if r.refused == nil {
		b = append(append(append(b, `"status":"`...), r.outcome...), `",`...)
		member("id", r.eventID)
		if r.events > 0 {
			b = append(strconv.AppendInt(append(b, `"events":`...), int64(r.events), 10), ',')
		}
	} else {
		member("error", r.refused.text)
	}
	b = append(append(append(b, `"request_id":"`...), requestID...), `"}`...) // letters and digits
	return append(b, '\n')
}

// prescribed writes the answer that the source wants.
func (r result) prescribed(w http.ResponseWriter) {
	h := w.Header()
	for name, value := range r.header {
		h.Set(name, value)
	}
	if r.reply.Body == "" {
		h["Content-Type"] = nil // nor shall net/http guess one
	} else {
		h.Set("Content-Type", r.reply.ContentType)
	}
	if r.reply.Status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(r.reply.Body)))
	}
	w.WriteHeader(r.reply.Status)
	_, _ = io.WriteString(w, r.reply.Body) // as above
}

// seconds rounds up to whole seconds, at least one.
func seconds(d time.Duration) int {
	return int(max((d+time.Second-1)/time.Second, 1))
}
