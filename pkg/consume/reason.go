package consume

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/fault"
)

// maxReasonBytes bounds the error text in a reason, which becomes a header.
const maxReasonBytes = 4096

// Reason is why a message was given up. It travels in the server's terminated
// advisory as JSON.
type Reason struct {
	Class    fault.Class `json:"class"`
	Message  string      `json:"message"`
	Attempts int         `json:"attempts"`
	// FirstAt is when the stream took the message: before its first attempt.
	FirstAt time.Time `json:"first_at"`
	// LastAt is when the last attempt ended.
	LastAt  time.Time `json:"last_at"`
	TraceID string    `json:"trace_id,omitempty"`
	// Letter is the sequence of the dead letter that was stored before the
	// message was given up, or 0.
	Letter uint64 `json:"letter,omitzero"`
}

// Encode returns r as one line of JSON of at most about 5 KB.
func (r Reason) Encode() string {
	r.Message = strings.ToValidUTF8(r.Message, "\uFFFD")
	if len(r.Message) > maxReasonBytes {
		cut := maxReasonBytes
		for !utf8.RuneStart(r.Message[cut]) {
			cut--
		}
		r.Message = r.Message[:cut] + " … (cut)"
	}
	b, err := json.Marshal(r)
	if err != nil { // no field can fail; the text alone still tells the cause
		return r.Message
	}
	return string(b)
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
