// Package deadletter is the dead letter: a message that a stage gave up, kept
// on TERCEL_DLQ with all that is needed to understand it and to send it again.
//
// A dead letter's body is the original payload untouched, and its headers are
// the original's, except those that the server obeys ("Nats-…"). What is known
// of the failure stands beside them:
//
//	tercel-dead-subject    the original's subject
//	tercel-dead-stream     the stream that holds or held the original
//	tercel-dead-sequence   its sequence there
//	tercel-dead-stored     when it was stored there, RFC 3339
//	tercel-dead-consumer   the durable consumer that gave it up
//	tercel-dead-msg-id     the original's Nats-Msg-Id
//	tercel-dead-kind       terminated or max_deliver
//	tercel-dead-at         when the server told that it was given up, RFC 3339
//	tercel-dead-reason     why, a [consume.Reason] as JSON
//	tercel-dead-payload    "missing" when the original was gone, "original" when
//	                       it had no room here and is read from its own stream
//	tercel-dead-dropped    how many of the original's headers had no room
//
// Nothing is deleted by being looked at, and a replay leaves its letter where
// it is. What became of a letter is kept beside the stream, in the bucket
// tercel_dead_letters under the letter's sequence, for as long as letters are;
// an edit of its payload stands there under the sequence with ".patch" behind.
package deadletter

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
)

// Kind is how the server gave a message up.
type Kind string

// The kinds, a closed set.
const (
	// Terminated messages were given up by their stage, which said why.
	Terminated Kind = "terminated"
	// MaxDeliver messages were delivered as often as the server may without
	// an answer: their workers crashed or hung.
	MaxDeliver Kind = "max_deliver"
)

// State is what became of a letter.
type State string

// The states, a closed set.
const (
	// StateOpen letters have not been dealt with.
	StateOpen State = "open"
	// StateReplayed letters were replayed at least once.
	StateReplayed State = "replayed"
	// StateDiscarded letters were marked as dealt with, without being replayed.
	StateDiscarded State = "discarded"
)

// Letter is one dead letter.
//
// The same message can be given up by one stage although its work was done:
// the server counts a message as undeliverable while a worker that is slow to
// answer still has it in hand. A letter of kind [MaxDeliver] is therefore a
// question, not a verdict; replaying it is safe either way (promise 4).
type Letter struct {
	// Sequence is the letter's own place in TERCEL_DLQ.
	Sequence uint64
	// Event has the original's attributes, as far as they could be read. It is
	// empty when the original was gone.
	Event event.Event
	// Stage gave the message up, and Name is the source or destination that it
	// served.
	Stage, Name string
	// Subject, Stream and OriginalSequence are the original's place. Subject is
	// empty when the original was gone.
	Subject          string
	Stream           string
	OriginalSequence uint64
	// StoredAt is when the original was stored there, which tells it from another
	// that has its sequence since the stream lost its end. It is zero when the
	// original was gone.
	StoredAt time.Time
	// Consumer is the durable name of the consumer that gave the message up.
	Consumer string
	// MsgID is the original's Nats-Msg-Id.
	MsgID string
	// Reason is why it was given up.
	Reason consume.Reason
	// Kind is how it was given up.
	Kind Kind
	// DeadAt is when the server told so.
	DeadAt time.Time
	// PayloadMissing says that the original's body is known to be lost.
	PayloadMissing bool
	// Payload is the original's body. [List] leaves it out.
	Payload []byte
	// Header has the original's headers without those that the server obeys.
	Header nats.Header
	// State is what became of the letter, Replayed tells of the last replay, if
	// there was one, and Discarded why nobody will replay it, if that is so.
	State     State
	Replayed  *Replayed
	Discarded *Discarded
	// Edited says that there is an edit, which a replay sends instead of the
	// payload.
	Edited bool

	elsewhere bool // the body had no room and is read from the original
}

// Replayed is one replay of a letter.
type Replayed struct {
	// At is when the message was sent again.
	At time.Time `json:"at"`
	// MsgID is the fresh Nats-Msg-Id that it was sent under.
	MsgID string `json:"msg_id"`
	// Stream, Sequence and Subject are where it was stored.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject,omitzero"`
}

// Discarded is why a letter was discarded.
type Discarded struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Errors that callers tell apart.
var (
	// ErrNotFound is returned for a sequence that holds no letter (any more).
	ErrNotFound = errors.New("no such dead letter")
	// ErrReplayed is returned by [Replay] for a letter that was replayed
	// before. Its text says when, and as what.
	ErrReplayed = errors.New("already replayed")
	// ErrDiscarded is returned by [Replay] for a letter that is to be left alone.
	ErrDiscarded = errors.New("discarded")
	// ErrPayloadMissing is returned by [Replay] for a letter whose original was
	// gone before it could be kept: there is nothing to send.
	ErrPayloadMissing = errors.New("payload is missing")
	// ErrStage is returned by [Replay] for a stage at which the letter's message
	// can't begin. Its text says why.
	ErrStage = errors.New("can't begin there")
	// ErrPatch is returned by [Edit] for a patch that is none, or that doesn't
	// fit the payload.
	ErrPatch = errors.New("patch can't be applied")
)
