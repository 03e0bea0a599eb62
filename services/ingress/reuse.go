package ingress

import "sync"

// inspections are those whose requests are over, to be used again: with their
// memory for the body, the message and its headers, which is half of all that
// is allocated for an event.
var inspections = sync.Pool{New: func() any { return new(inspection) }}

// maxReused bounds the body's memory that is kept.
const maxReused = 16 << 10

// reuse gives the inspection back. It must be settled: while nobody knows what
// became of a message, the publisher may still send it, and another event's
// bytes would be stored under its id.
func (in *inspection) reuse() {
	if cap(in.buffer) > maxReused || cap(in.text) > maxReused {
		return
	}
	buffer, text, docs, trigger := in.buffer[:0], in.text[:0], in.docs, in.trigger
	clear(docs)
	*in = inspection{buffer: buffer, text: text, docs: docs, trigger: trigger}
	inspections.Put(in)
}
