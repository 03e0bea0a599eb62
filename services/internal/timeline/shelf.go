package timeline

import (
	"cmp"
	"context"
	"encoding/binary"
	"os"
	"slices"
	"sync"
	"time"
)

// shelf is the index of one stream: full segments, and the tail that the next
// one is made of. It is safe for concurrent use.
type shelf struct {
	stream string
	dir    string // "" keeps it in memory

	mu      sync.Mutex // guards what follows
	created int64      // when the stream was made, Unix nanoseconds
	first   uint64     // the first sequence that the stream still has
	full    []*segment // the oldest first
	base    uint64     // of the tail; 0 while it is empty
	tail    []uint64   // unsorted
	file    string     // that has the beginning of the tail, or ""
	last    uint64     // the last sequence that was read
	lastAt  time.Time  // when that message was stored
}

// open takes up what an earlier process has left of the stream, if it is still
// the same one. What can't be used is removed, and is read from the stream again.
func (s *shelf) open(created time.Time, first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = first
	if c := created.UnixNano(); s.created != c || s.last > last {
		for _, old := range s.full {
			old.close()
		}
		s.created, s.full, s.tail, s.base, s.file, s.last = c, nil, nil, 0, "", 0
		s.load(last)
	}
	s.expire(first)
}

// load reads the stream's segments from the folder. s.mu must be held.
func (s *shelf) load(last uint64) {
	if s.dir == "" {
		return
	}
	names, err := segmentFiles(s.dir, s.stream)
	if err != nil {
		return
	}
	for _, name := range names {
		seg, err := openSegment(name, s.created)
		if err != nil { // of another stream, or cut
			_ = os.Remove(name)
			continue
		}
		// Behind a gap, or of a stream that has lost its end since.
		if seg.base <= s.last || seg.base > max(s.last+1, s.first) || seg.last > last {
			seg.remove()
			continue
		}
		s.last = seg.last
		s.full = append(s.full, seg)
	}
	s.reopenTail()
}

// reopenTail goes on with the last segment if it isn't full: many starts would
// otherwise leave many small ones. s.mu must be held.
func (s *shelf) reopenTail() {
	n := len(s.full) - 1
	if n < 0 || s.full[n].entries >= segmentEntries {
		return
	}
	seg := s.full[n]
	data := make([]byte, seg.entries*entryBytes)
	if _, err := seg.marks.ReadAt(data, 0); err != nil && len(data) > 0 {
		return // it stays a small one
	}
	s.full = s.full[:n]
	s.base = seg.base
	for ; len(data) > 0; data = data[entryBytes:] {
		s.tail = append(s.tail, binary.BigEndian.Uint64(data))
	}
	s.file = seg.file.Name() // it is replaced by that of the longer one
	seg.close()
}

// add notes that the message at a sequence speaks of texts.
func (s *shelf) add(sequence uint64, at time.Time, texts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence <= s.last {
		return nil
	}
	var err error
	if len(s.tail)+len(texts) > segmentEntries || s.base > 0 && sequence-s.base > farthest {
		err = s.seal()
	}
	if s.base == 0 {
		s.base = max(s.last+1, s.first) // so that a gap between two segments can be told
	}
	for _, text := range texts {
		s.tail = append(s.tail, entry(hash(text), sequence-s.base))
	}
	s.last, s.lastAt = sequence, at
	return err
}

// seal makes a segment of the tail. One that can't be written stays in memory.
// s.mu must be held.
func (s *shelf) seal() error {
	if s.base == 0 {
		return nil
	}
	seg, err := sealed(s.dir, s.stream, s.created, s.base, s.last, s.tail)
	if err != nil {
		seg, _ = sealed("", s.stream, s.created, s.base, s.last, s.tail) // which has no error
	}
	s.full = append(s.full, seg)
	s.tail, s.base, s.file = nil, 0, ""
	return err
}

// save writes the tail, for the next process to go on with.
func (s *shelf) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		return nil
	}
	return s.seal()
}

// close closes the files.
func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.full {
		seg.close()
	}
	s.full = nil
}

// retain drops what the stream no longer has.
func (s *shelf) retain(first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(first)
}

// expire is retain while s.mu is held.
func (s *shelf) expire(first uint64) {
	s.first = first
	for len(s.full) > 0 && s.full[0].last < first {
		s.full[0].remove()
		s.full = slices.Delete(s.full, 0, 1)
	}
	if s.base > 0 && s.last < first {
		if s.file != "" {
			_ = os.Remove(s.file) // as in remove
		}
		s.tail, s.base, s.file = nil, 0, ""
	}
}

// find returns the sequences of messages that may speak of a text, the newest
// first and at most so many. More says that there are older ones.
func (s *shelf) find(text string, most int) (sequences []uint64, more bool, err error) {
	h := hash(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []uint64
	take := func(some []uint64) (enough bool) {
		slices.SortFunc(some, func(a, b uint64) int { return cmp.Compare(b, a) })
		for _, seq := range slices.Compact(some) {
			if seq >= s.first {
				found = append(found, seq)
			}
		}
		return len(found) > most
	}
	var part []uint64
	for _, e := range s.tail {
		if uint32(e>>32) == h {
			part = append(part, s.base+e&farthest)
		}
	}
	for i := len(s.full) - 1; !take(part) && i >= 0; i-- {
		if part, err = s.full[i].find(h, nil); err != nil {
			return nil, false, err
		}
	}
	if len(found) > most {
		return found[:most], true, nil
	}
	return found, false, nil
}

// position is the last message that was read, and when it was stored.
func (s *shelf) position() (last uint64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.lastAt
}

// wait returns the position once it has reached a sequence, or what it is when
// that takes too long.
func (s *shelf) wait(ctx context.Context, sequence uint64, until time.Time) (last uint64, at time.Time) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if last, at = s.position(); last >= sequence || time.Now().After(until) {
			return last, at
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, at
		}
	}
}

// bytes is what the shelf takes: in memory, and in files.
func (s *shelf) bytes() (memory, disk int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	memory = int64(cap(s.tail)) * entryBytes
	for _, seg := range s.full {
		if n := int64(seg.entries) * entryBytes; seg.file != nil {
			disk += headerBytes + n
		} else {
			memory += n
		}
	}
	return memory, disk
}
