package timeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// A segment is what many messages of one stream speak of: eight bytes for each
// text, of which the upper half is the text's hash and the lower half the
// message's sequence as a distance from the segment's base. They are sorted and
// never change, so that they need not be in memory: a question reads some twenty
// of them from the file, and the system keeps in memory what is asked for often.
type segment struct {
	base, last uint64 // sequences: of the first message, and of the last that was read
	entries    int
	marks      io.ReaderAt // big-endian
	file       *os.File    // nil in memory
}

// segmentEntries is how many a full segment has: 2 MiB of them. Only tests change
// it.
var segmentEntries = 1 << 18

const (
	entryBytes = 8
	// farthest is how far a sequence may be from its segment's base.
	farthest = 1<<32 - 1
)

// hash is a part of a text's SHA-256: ids come from outside, and nobody should
// find two that meet more cheaply than by trying.
func hash(text string) uint32 {
	var buf [256]byte // so that it mostly stays on the stack
	sum := sha256.Sum256(append(buf[:0], text...))
	return binary.BigEndian.Uint32(sum[:])
}

func entry(hash uint32, distance uint64) uint64 { return uint64(hash)<<32 | distance }

// find appends the sequences of messages that speak of a text with this hash.
func (s *segment) find(hash uint32, out []uint64) ([]uint64, error) {
	var failure error
	at := func(i int) uint64 {
		var b [entryBytes]byte
		if _, err := s.marks.ReadAt(b[:], int64(i)*entryBytes); err != nil {
			failure = err
		}
		return binary.BigEndian.Uint64(b[:])
	}
	i := sort.Search(s.entries, func(i int) bool { return failure != nil || at(i) >= entry(hash, 0) })
	for ; i < s.entries && failure == nil; i++ {
		e := at(i)
		if uint32(e>>32) != hash || failure != nil {
			break
		}
		out = append(out, s.base+e&farthest)
	}
	if failure != nil {
		return out, fmt.Errorf("read the index: %w", failure)
	}
	return out, nil
}

func (s *segment) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
}

// remove closes the segment and removes its file.
func (s *segment) remove() {
	s.close()
	if s.file != nil {
		_ = os.Remove(s.file.Name()) // one that stays is of the past, and goes the next time
	}
}

// Files of segments begin with a header of five numbers, big-endian.
const (
	fileMagic   = 0x5445524345490001 // TERCEI, format 1
	headerBytes = 5 * 8
	fileSuffix  = ".index"
)

// sealed makes a segment of entries, in a file if there is a folder. Created is
// when the stream was made: that of a stream of the same name made anew is worth
// nothing.
func sealed(dir, stream string, created int64, base, last uint64, entries []uint64) (*segment, error) {
	slices.Sort(entries)
	s := &segment{base: base, last: last, entries: len(entries)}
	if dir == "" {
		data := make([]byte, 0, len(entries)*entryBytes)
		for _, e := range entries {
			data = binary.BigEndian.AppendUint64(data, e)
		}
		s.marks = bytes.NewReader(data)
		return s, nil
	}
	data := make([]byte, 0, headerBytes+len(entries)*entryBytes)
	for _, n := range []uint64{fileMagic, uint64(created), base, last, uint64(len(entries))} {
		data = binary.BigEndian.AppendUint64(data, n)
	}
	for _, e := range entries {
		data = binary.BigEndian.AppendUint64(data, e)
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%020d%s", stream, base, fileSuffix))
	if err := replace(name, data); err != nil {
		return nil, fmt.Errorf("write the index: %w", err)
	}
	return openSegment(name, created)
}

// replace writes a file so that it is there as a whole or not at all. It isn't
// synced: what a power cut takes is read from the streams again.
func replace(name string, data []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

var errSegment = errors.New("not a segment of this stream's index")

// openSegment opens a segment's file.
func openSegment(name string, created int64) (*segment, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	s, err := readHeader(file, created)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return s, nil
}

func readHeader(file *os.File, created int64) (*segment, error) {
	var b [headerBytes]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return nil, errSegment
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	entries := n(4)
	if n(0) != fileMagic || n(1) != uint64(created) || n(3) < n(2) || entries > uint64(info.Size()) ||
		info.Size() != int64(headerBytes+entries*entryBytes) {
		return nil, errSegment
	}
	return &segment{
		base: n(2), last: n(3), entries: int(entries), file: file,
		marks: io.NewSectionReader(file, headerBytes, int64(entries)*entryBytes),
	}, nil
}

// segmentFiles lists the files of a stream's segments, the oldest first.
func segmentFiles(dir, stream string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if strings.HasPrefix(e.Name(), stream+"-") && strings.HasSuffix(e.Name(), fileSuffix) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}
