package consume

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/fault"
)

// maxReasonBytes bounds each text in a reason, which becomes a header.
const maxReasonBytes = 4096

// Reason is why a message was given up. It travels in the server's terminated
// advisory as JSON.
type Reason struct {
	Class   fault.Class `json:"class"`
	Message string      `json:"message"`
	// Detail is what helps to see why and has no place in logs, such as what the
	// other side wrote, or "".
	Detail   string `json:"detail,omitzero"`
	Attempts int    `json:"attempts"`
	// FirstAt is when the stream took the message: before its first attempt.
	FirstAt time.Time `json:"first_at"`
	// LastAt is when the last attempt ended.
	LastAt  time.Time `json:"last_at"`
	TraceID string    `json:"trace_id,omitempty"`
	// Letter is the sequence of the dead letter that was stored before the
	// message was given up, or 0.
	Letter uint64 `json:"letter,omitzero"`
}

// Encode returns r as one line of JSON of at most about 10 KB, unless quoting
// makes its texts longer.
func (r Reason) Encode() string {
	r.Message, r.Detail = bounded(r.Message), bounded(r.Detail)
	b, err := json.Marshal(r)
	if err != nil { // no field can fail; the text alone still tells the cause
		return r.Message
	}
	return string(b)
}

// bounded is text as valid UTF-8, cut where it is too long.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxReasonBytes {
		return text
	}
	cut := maxReasonBytes
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + " … (cut)"
}

// DecodeReason reads a reason. A text that is none, as the server's own
// reasons are, becomes the message of an exhausted one.
func DecodeReason(text string) Reason {
	var r Reason
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Class == "" {
		return Reason{Class: fault.Exhausted, Message: text}
	}
	return r
}
