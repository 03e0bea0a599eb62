package ledger

import (
	"encoding/binary"
	"errors"
	"slices"
)

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

// decode reads a block. Its entries are appended to buf, which is used again.
func decode(data []byte, buf []entry) (block, error) {
	if len(data) < headerBytes || data[0] != format || (len(data)-headerBytes)%entryBytes != 0 ||
		len(data) > headerBytes+maxEntries*entryBytes {
		return block{}, errBlock
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(data[at:]) }
	b := block{created: int64(number(1)), through: number(9), at: int64(number(17))}
	b.entries = slices.Grow(buf[:0], (len(data)-headerBytes)/entryBytes)
	for at := headerBytes; at < len(data); at += entryBytes {
		e := entry{number(at), state{number(at + 8), int64(number(at + 16)), int64(number(at + 24))}}
		if e.observed < 0 || e.deleted < 0 || e.observed == 0 && (e.deleted == 0 || e.version != 0) {
			return block{}, errBlock
		}
		b.entries = append(b.entries, e)
	}
	return b, nil
}
