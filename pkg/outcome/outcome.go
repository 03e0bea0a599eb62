// Package outcome keeps what became of single tries at messages, where more than
// one was needed, in the bounded stream TERCEL_OUTCOMES.
//
// A try that succeeds at once leaves no trace of its own: that a message is done
// with is known from its consumer, and what it led to from its stream. Only tries
// that failed are noted, and the one that ended them. So what works costs nothing,
// and an outage little: it makes no tries (see package fault), and a process
// stores [rate] a second at most. What is beyond that is left out, and
// the next that is stored says how many were.
package outcome

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Record is one try at a message.
type Record struct {
	// At is when it ended, Took how long its handler had it.
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
	// Consumer is the durable name of the stage's consumer.
	Consumer string `json:"consumer"`
	// Stream and Sequence are the message's place.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"message"`
	// Attempt counts the tries from 1.
	Attempt int `json:"attempt"`
	// Outcome is how the message was answered: acked, delayed or terminated.
	Outcome consume.Outcome `json:"outcome"`
	// Message is why it failed, or "".
	Message string `json:"error,omitempty"`
	// Class is whether that may pass, or "".
	Class fault.Class `json:"class,omitempty"`
	// Left is how many tries the same process has left out since the last one
	// that it stored.
	Left int64 `json:"left_out,omitempty"`
}

// maxMessageBytes bounds an error's text.
const maxMessageBytes = 1024

func newRecord(consumer string, m consume.Message, a consume.Attempt, now time.Time) Record {
	r := Record{
		At: now.UTC(), Took: a.Took, Consumer: consumer, Stream: m.Stream, Sequence: m.Sequence, Attempt: m.Attempt, Outcome: a.Outcome,
	}
	if a.Err != nil {
		r.Message, r.Class = a.Err.Error(), fault.ClassOf(a.Err)
		if len(r.Message) > maxMessageBytes {
			r.Message = strings.ToValidUTF8(r.Message[:maxMessageBytes], "") + " … (cut)"
		}
	}
	return r
}

// Decode reads a record as it is stored. The error means that something else
// wrote it.
func Decode(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Consumer == "" || r.Sequence == 0 {
		return Record{}, errors.New("outcome: not one of a stage")
	}
	return r, nil
}

// message is r as it is stored: with the attributes of the message that was
// tried, by which it is found.
func (r Record) message(tried nats.Header) (*nats.Msg, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("outcome: %w", err)
	}
	e, err := event.FromHeader(tried)
	if err != nil {
		return nil, fmt.Errorf("outcome: %w", err) // of nobody's event
	}
	stage, _, _ := topology.Stage(r.Consumer)
	m := nats.NewMsg(topology.PrefixOutcomes + "." + stage + "." + event.Escape(e.Source))
	m.Header, m.Data = e.Header(), data
	return m, nil
}
