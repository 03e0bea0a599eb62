package deadletter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Headers of a dead letter, see the package comment.
const (
	prefix         = "tercel-dead-"
	headerSubject  = prefix + "subject"
	headerStream   = prefix + "stream"
	headerSequence = prefix + "sequence"
	headerStored   = prefix + "stored"
	headerConsumer = prefix + "consumer"
	headerMsgID    = prefix + "msg-id"
	headerKind     = prefix + "kind"
	headerAt       = prefix + "at"
	headerReason   = prefix + "reason"
	headerPayload  = prefix + "payload"
	headerDropped  = prefix + "dropped"

	payloadMissing  = "missing"
	payloadOriginal = "original"
)

// maxOriginalHeaderBytes bounds what is copied of the original's headers: the
// server takes 64 KiB in all, and the letter's own need at most about 8.
const maxOriginalHeaderBytes = 48 << 10

// Publish stores l as one message of TERCEL_DLQ and returns once the server
// has acknowledged it. The same failure of the same message is stored once, as
// long as the dedup window lasts: advisories come twice at times (promise 4).
//
// It reads what is known of the original and of its failure. Stage and Name
// follow from Consumer, Event from Header; Sequence and State from the store.
func Publish(ctx context.Context, js jetstream.JetStream, l Letter) (publish.Ack, error) {
	stage, name, ok := topology.Stage(l.Consumer)
	if !ok {
		return publish.Ack{}, fmt.Errorf("dead letter of %s: consumer %q is none of package topology's", l.Stream, l.Consumer)
	}
	m := nats.NewMsg(event.PrefixDLQ + "." + stage + "." + name + "." + event.NoAccount + ".unknown")
	if l.Subject != "" {
		m.Subject = event.DLQSubject(stage, l.Subject)
	}
	m.Header = l.header()
	if !l.PayloadMissing {
		m.Data = l.Payload
	}
	id := l.id()
	ack, err := js.PublishMsg(ctx, m, jetstream.WithMsgID(id), jetstream.WithExpectStream(topology.StreamDLQ))
	if publish.TooLarge(err) {
		// The original fitted, but not together with what is known of it.
		m.Data = nil
		m.Header.Set(headerPayload, payloadOriginal)
		ack, err = js.PublishMsg(ctx, m, jetstream.WithMsgID(id), jetstream.WithExpectStream(topology.StreamDLQ))
	}
	if err != nil {
		return publish.Ack{}, fmt.Errorf("publish dead letter of %s %d: %w", l.Stream, l.OriginalSequence, err)
	}
	return publish.Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// id is the letter's own Nats-Msg-Id. A stream that has lost its end gives its
// sequences out again: only with the time at which the original was stored is
// another message's letter none of this one (promise 3).
func (l Letter) id() string {
	id := fmt.Sprintf("dlq:%s:%s:%d", l.Stream, l.Consumer, l.OriginalSequence)
	if !l.StoredAt.IsZero() {
		id += fmt.Sprintf(":%d", l.StoredAt.UnixNano())
	}
	return id
}

// Keep returns what a loop over the given durable consumer calls before it
// gives a message up: it stores the letter, as the collector does for messages
// whose workers could not. It returns the letter's sequence.
func Keep(js jetstream.JetStream, consumer string) func(context.Context, consume.Message, consume.Reason) (uint64, error) {
	return func(ctx context.Context, m consume.Message, r consume.Reason) (uint64, error) {
		ack, err := Publish(ctx, js, Letter{
			Stream: m.Stream, Consumer: consumer, OriginalSequence: m.Sequence, StoredAt: m.StoredAt, Subject: m.Subject, Header: m.Header,
			MsgID: m.Header.Get(jetstream.MsgIDHeader), Payload: m.Data, Kind: Terminated, DeadAt: r.LastAt, Reason: r,
		})
		return ack.Sequence, err
	}
}

// header is l as headers, without the Nats-Msg-Id of its own.
func (l Letter) header() nats.Header {
	h, dropped := bounded(original(l.Header))
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(headerSubject, l.Subject)
	set(headerStream, l.Stream)
	set(headerSequence, strconv.FormatUint(l.OriginalSequence, 10))
	if !l.StoredAt.IsZero() {
		set(headerStored, l.StoredAt.UTC().Format(time.RFC3339Nano))
	}
	set(headerConsumer, l.Consumer)
	set(headerMsgID, l.MsgID)
	set(headerKind, string(l.Kind))
	set(headerAt, l.DeadAt.UTC().Format(time.RFC3339Nano))
	set(headerReason, l.Reason.Encode())
	if l.PayloadMissing {
		set(headerPayload, payloadMissing)
	}
	if dropped > 0 {
		set(headerDropped, strconv.Itoa(dropped))
	}
	return h
}

// original returns the headers of h that are neither the server's to obey nor
// a dead letter's own: a copied Nats-Rollup would empty the stream.
func original(h nats.Header) nats.Header {
	kept := make(nats.Header, len(h)+10)
	for name, values := range h {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "nats-") && !strings.HasPrefix(lower, prefix) {
			kept[name] = values
		}
	}
	return kept
}

// bounded drops headers that have no room, an event's own last, and tells how
// many it dropped.
func bounded(h nats.Header) (nats.Header, int) {
	names := slices.SortedFunc(maps.Keys(h), func(a, b string) int {
		if x, y := ours(a), ours(b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	room, dropped := maxOriginalHeaderBytes, 0
	for _, name := range names {
		size := 0
		for _, v := range h[name] {
			size += len(name) + len(v) + len(": \r\n")
		}
		if size > room {
			delete(h, name)
			dropped++
			continue
		}
		room -= size
	}
	return h, dropped
}

func ours(name string) bool {
	return strings.HasPrefix(name, "ce-") || strings.HasPrefix(name, "tercel-") ||
		name == event.HeaderContentType || name == event.HeaderTraceParent
}

// read makes a letter of a message on TERCEL_DLQ. What can't be read stays
// empty: a letter is evidence, and half of it is better than an error.
func read(seq uint64, h nats.Header, data []byte) Letter {
	l := Letter{
		Sequence: seq, Subject: h.Get(headerSubject), Stream: h.Get(headerStream), Consumer: h.Get(headerConsumer),
		MsgID: h.Get(headerMsgID), Kind: Kind(h.Get(headerKind)), Reason: consume.DecodeReason(h.Get(headerReason)),
		PayloadMissing: h.Get(headerPayload) == payloadMissing, elsewhere: h.Get(headerPayload) == payloadOriginal,
		Payload: data, Header: original(h), State: StateOpen,
	}
	l.Stage, l.Name, _ = topology.Stage(l.Consumer)
	l.OriginalSequence, _ = strconv.ParseUint(h.Get(headerSequence), 10, 64)
	l.StoredAt, _ = time.Parse(time.RFC3339Nano, h.Get(headerStored))
	l.DeadAt, _ = time.Parse(time.RFC3339Nano, h.Get(headerAt))
	l.Event, _ = event.FromHeader(l.Header)
	return l
}
