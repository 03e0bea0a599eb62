package collector

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/fault"
)

// Types of the advisories that the stream takes, from nats-server's
// jetstream_events.go.
const (
	typeMaxDeliver = "io.nats.jetstream.advisory.v1.max_deliver"
	typeTerminated = "io.nats.jetstream.advisory.v1.terminated"
)

// advisory is what the server tells of a message that was given up.
type advisory struct {
	Type       string    `json:"type"`
	Timestamp  time.Time `json:"timestamp"`
	Stream     string    `json:"stream"`
	Consumer   string    `json:"consumer"`
	Sequence   uint64    `json:"stream_seq"`
	Deliveries int       `json:"deliveries"`
	Reason     string    `json:"reason"`
}

// decode reads an advisory. Whoever may publish on the server's subjects can
// forge one, so it is read as strictly as anything from outside; the error
// holds nothing of it.
func decode(data []byte) (advisory, error) {
	var a advisory
	if err := json.Unmarshal(data, &a); err != nil {
		return advisory{}, errors.New("not the JSON of an advisory")
	}
	switch {
	case a.Type != typeMaxDeliver && a.Type != typeTerminated:
		return advisory{}, errors.New("neither of a maximum of deliveries nor of a termination")
	case a.Stream == "" || a.Consumer == "" || a.Sequence == 0:
		return advisory{}, errors.New("names no message")
	case a.Deliveries < 0:
		return advisory{}, errors.New("a negative number of deliveries")
	}
	return a, nil
}

func (a advisory) kind() deadletter.Kind {
	if a.Type == typeMaxDeliver {
		return deadletter.MaxDeliver
	}
	return deadletter.Terminated
}

// reason is why the message was given up: the stage's own word if it said
// one, else the server's, kept as it is.
func (a advisory) reason() consume.Reason {
	r := consume.DecodeReason(a.Reason)
	switch {
	case a.Type == typeMaxDeliver:
		r = consume.Reason{
			Class:   fault.Exhausted,
			Message: fmt.Sprintf("no answer to any of %d deliveries: the worker crashed, hung or was late", a.Deliveries),
		}
	case r.Message == "":
		r.Message = "terminated without a reason"
	}
	if r.Attempts == 0 {
		r.Attempts = a.Deliveries
	}
	if r.LastAt.IsZero() {
		r.LastAt = a.Timestamp
	}
	return r
}
