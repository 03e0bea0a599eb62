package ledger

import (
	"encoding/binary"
	"errors"

	"github.com/tercelhq/tercel/pkg/event"
)

// state is what was seen of one record.
type state struct {
	version  uint64 // see ordinal
	observed int64  // when version was seen, in Unix nanoseconds, or 0 if none was
	deleted  int64  // when the record was last seen to be gone, or 0
}

// held reports whether the record was seen alive, and not to be gone since.
func (s state) held() bool { return s.observed > 0 && s.deleted <= s.observed }

// unorderedBit marks the ordinal of a version that can only be compared for
// equality. Those that have an order are below 2^63.
const unorderedBit = 1 << 63

func unordered(ordinal uint64) bool { return ordinal&unorderedBit != 0 }

func ordinal(v event.Version) uint64 {
	n, ordered := v.Ordinal()
	if !ordered {
		return n | unorderedBit
	}
	return n
}

// join returns what was seen by s and t, in whatever order they come. The newest
// version wins (promise 7); of versions without an order it is the one that was
// observed last.
func (s state) join(t state) state {
	out := s
	out.deleted = max(s.deleted, t.deleted)
	if t.observed != 0 && (s.observed == 0 || t.newer(s)) {
		out.version, out.observed = t.version, t.observed
	}
	return out
}

func (s state) newer(t state) bool {
	if unordered(s.version) || unordered(t.version) {
		return s.observed > t.observed || s.observed == t.observed && s.version > t.version
	}
	return s.version > t.version || s.version == t.version && s.observed > t.observed
}

// A block is a part of the ledger as it is stored: big-endian numbers, a
// header of format (1 byte), created, through and at (8 each), then 32 bytes
// for each entry: id, version, observed, deleted.
type block struct {
	created int64  // when the stream was created
	through uint64 // the sequence up to which it was read
	at      int64  // when the message of that sequence was stored
	entries []entry
}

type entry struct {
	id uint64
	state
}

const (
	format      = 2
	headerBytes = 25
	entryBytes  = 32
	maxEntries  = 4096
)

var errBlock = errors.New("not a block of a ledger")

func (b block) encode() []byte {
	out := make([]byte, 0, headerBytes+entryBytes*len(b.entries))
	out = append(out, format)
	out = binary.BigEndian.AppendUint64(out, uint64(b.created))
	out = binary.BigEndian.AppendUint64(out, b.through)
	out = binary.BigEndian.AppendUint64(out, uint64(b.at))
	for _, e := range b.entries {
		for _, n := range [...]uint64{e.id, e.version, uint64(e.observed), uint64(e.deleted)} {
			out = binary.BigEndian.AppendUint64(out, n)
		}
	}
	return out
}

func decode(data []byte) (block, error) {
	if len(data) < headerBytes || data[0] != format || (len(data)-headerBytes)%entryBytes != 0 ||
		len(data) > headerBytes+maxEntries*entryBytes {
		return block{}, errBlock
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(data[at:]) }
	b := block{created: int64(number(1)), through: number(9), at: int64(number(17))}
	b.entries = make([]entry, 0, (len(data)-headerBytes)/entryBytes)
	for at := headerBytes; at < len(data); at += entryBytes {
		e := entry{number(at), state{number(at + 8), int64(number(at + 16)), int64(number(at + 24))}}
		if e.observed < 0 || e.deleted < 0 || e.observed == 0 && (e.deleted == 0 || e.version != 0) {
			return block{}, errBlock
		}
		b.entries = append(b.entries, e)
	}
	return b, nil
}
