package field

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// quick is one pass over a document that is written as most are. It takes a
// third of the time of package jsontext's, and only ever says yes: at whatever
// is wrong or rare it gives up, and leaves the word to [Valid]'s slower reader.
// So it must never take what that would refuse (see FuzzScan).
type quick struct {
	doc    []byte
	paths  []Path
	values []jsontext.Value // what each path finds
	names  [quickNames]name // of all objects that are open, the innermost's last
	n      int
}

// Bounds of what is read quickly.
const (
	quickNames = 512 // of all objects that are open at once
	quickDepth = 64
)

// gaveUp is returned instead of the place behind what was read.
const gaveUp = -1

// name is a member's name by its place.
type name struct {
	hash       uint64
	start, end int
}

var quicks = sync.Pool{New: func() any { return new(quick) }}

// quickly reports whether doc is strict JSON for sure, and then has written
// what paths find in it to values. Paths with [] are left out.
func quickly(doc []byte, paths []Path, values []jsontext.Value) bool {
	if !utf8.Valid(doc) {
		return false
	}
	q := quicks.Get().(*quick) //nolint:forcetypeassert // the pool's New makes nothing else
	q.doc, q.paths, q.values, q.n = doc, paths, values, 0
	var all uint64
	for i, p := range paths {
		if !p.Many() {
			all |= 1 << i
		}
	}
	end := q.value(space(doc, 0), 0, all)
	q.doc, q.paths, q.values = nil, nil, nil
	quicks.Put(q)
	return end != gaveUp && space(doc, end) == len(doc)
}

// value reads the value that begins at i, which lies where the first depth
// segments of the live paths lead to, and returns the place behind it.
func (q *quick) value(i, depth int, live uint64) (end int) {
	if i == len(q.doc) || depth > quickDepth {
		return gaveUp
	}
	switch c := q.doc[i]; {
	case c == '{':
		end = q.object(i+1, depth, live)
	case c == '[':
		end = q.array(i+1, depth, live)
	case c == '"':
		end, _ = text(q.doc, i+1)
	case c == '-' || c >= '0' && c <= '9':
		end = number(q.doc, i)
	default:
		end = literal(q.doc, i)
	}
	if live == 0 || end == gaveUp {
		return end
	}
	for n, p := range q.paths {
		if live&(1<<n) != 0 && len(p.segments) == depth {
			q.values[n] = q.doc[i:end]
		}
	}
	return end
}

func (q *quick) object(i, depth int, live uint64) int {
	doc, outer := q.doc, q.n
	var filter [4]uint64 // bits of the names so far
	if i = space(doc, i); i < len(doc) && doc[i] == '}' {
		return i + 1
	}
	for {
		if i == len(doc) || doc[i] != '"' {
			return gaveUp
		}
		end, escaped := text(doc, i+1)
		if end == gaveUp || escaped || !q.add(&filter, outer, i+1, end-1) {
			return gaveUp
		}
		name := doc[i+1 : end-1]
		if i = space(doc, end); i == len(doc) || doc[i] != ':' {
			return gaveUp
		}
		var below uint64
		if live != 0 {
			below = q.match(live, depth, func(s segment) bool { return s.name == string(name) })
		}
		if i = q.value(space(doc, i+1), depth+1, below); i == gaveUp {
			return gaveUp
		}
		if i = space(doc, i); i == len(doc) {
			return gaveUp
		}
		if doc[i] == '}' {
			q.n = outer
			return i + 1
		}
		if doc[i] != ',' {
			return gaveUp
		}
		i = space(doc, i+1)
	}
}

func (q *quick) array(i, depth int, live uint64) int {
	doc := q.doc
	if i = space(doc, i); i < len(doc) && doc[i] == ']' {
		return i + 1
	}
	for n := 0; ; n++ {
		var below uint64
		if live != 0 {
			below = q.match(live, depth, func(s segment) bool { return s.index == n })
		}
		if i = q.value(i, depth+1, below); i == gaveUp {
			return gaveUp
		}
		if i = space(doc, i); i == len(doc) {
			return gaveUp
		}
		if doc[i] == ']' {
			return i + 1
		}
		if doc[i] != ',' {
			return gaveUp
		}
		i = space(doc, i+1)
	}
}

// match returns those of the live paths whose next segment fits.
func (q *quick) match(live uint64, depth int, fits func(segment) bool) (matching uint64) {
	for n, p := range q.paths {
		if bit := uint64(1) << n; live&bit != 0 && len(p.segments) > depth && fits(p.segments[depth]) {
			matching |= bit
		}
	}
	return matching
}

// add notes the name that lies between two places. It returns false if the
// object, whose names begin at the number from, has one like it, or if there
// is no room.
func (q *quick) add(filter *[4]uint64, from, start, end int) bool {
	if q.n == quickNames {
		return false
	}
	h := hashName(q.doc, start, end)
	word, bit := h>>62, uint64(1)<<(h>>56&63)
	if filter[word]&bit != 0 {
		for _, other := range q.names[from:q.n] {
			if other.hash == h && bytes.Equal(q.doc[other.start:other.end], q.doc[start:end]) {
				return false
			}
		}
	}
	filter[word] |= bit
	q.names[q.n] = name{h, start, end}
	q.n++
	return true
}

// hashName is a hash of a name's length, beginning and end. A clash costs a
// comparison.
func hashName(doc []byte, start, end int) uint64 {
	const prime = 0x9e3779b97f4a7c15
	n := end - start
	if n > 8 {
		first, last := binary.LittleEndian.Uint64(doc[start:]), binary.LittleEndian.Uint64(doc[end-8:])
		return (bits.RotateLeft64(first*prime, 32)^last)*prime + uint64(n)
	}
	var all uint64
	if start+8 <= len(doc) {
		all = binary.LittleEndian.Uint64(doc[start:]) << (64 - 8*n) // without what is behind the name
	} else {
		for i, c := range doc[start:end] {
			all |= uint64(c) << (64 - 8*n + 8*i)
		}
	}
	return all * prime
}

// space returns the place of the first byte from i on that is no white space.
func space(doc []byte, i int) int {
	for i < len(doc) && doc[i] <= ' ' && (doc[i] == ' ' || doc[i] == '\n' || doc[i] == '\t' || doc[i] == '\r') {
		i++
	}
	return i
}

// text returns the place behind the quote that ends the string whose first
// byte is at i, and whether anything is escaped in it.
func text(doc []byte, i int) (end int, escaped bool) {
	for {
		if i = plain(doc, i); i == len(doc) || doc[i] < ' ' {
			return gaveUp, false
		}
		if doc[i] == '"' {
			return i + 1, escaped
		}
		escaped = true
		if i = escape(doc, i); i == gaveUp {
			return gaveUp, false
		}
	}
}

// plain returns the place of the first byte from i on that is a quote, a
// backslash or a control character.
func plain(doc []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(doc); i += 8 {
		// Of the eight bytes those that are looked for get their highest bit set.
		// Higher ones may get it too, by what is carried over, so the lowest counts.
		w := binary.LittleEndian.Uint64(doc[i:])
		quote, slash := w^'"'*ones, w^'\\'*ones
		found := ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(doc) && doc[i] >= ' ' && doc[i] != '"' && doc[i] != '\\' {
		i++
	}
	return i
}

// escape returns the place behind the escape sequence at i.
func escape(doc []byte, i int) int {
	if i+1 == len(doc) {
		return gaveUp
	}
	switch doc[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
	default:
		return gaveUp
	}
	r, ok := hex4(doc, i+2)
	switch {
	case !ok || r >= 0xdc00 && r < 0xe000:
		return gaveUp
	case r < 0xd800 || r >= 0xe000:
		return i + 6
	}
	if i += 6; i+2 > len(doc) || doc[i] != '\\' || doc[i+1] != 'u' {
		return gaveUp
	}
	if r, ok = hex4(doc, i+2); !ok || r < 0xdc00 || r >= 0xe000 {
		return gaveUp
	}
	return i + 6
}

// hex4 reads four hexadecimal digits.
func hex4(doc []byte, i int) (r uint, ok bool) {
	if i+4 > len(doc) {
		return 0, false
	}
	for _, c := range doc[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | uint(c)
	}
	return r, true
}

// number returns the place behind the number at i.
func number(doc []byte, i int) int {
	if doc[i] == '-' {
		i++
	}
	if i < len(doc) && doc[i] == '0' {
		i++
	} else if i = digits(doc, i); i == gaveUp {
		return gaveUp
	}
	if i < len(doc) && doc[i] == '.' {
		if i = digits(doc, i+1); i == gaveUp {
			return gaveUp
		}
	}
	if i < len(doc) && (doc[i] == 'e' || doc[i] == 'E') {
		if i++; i < len(doc) && (doc[i] == '+' || doc[i] == '-') {
			i++
		}
		i = digits(doc, i)
	}
	return i
}

// digits returns the place behind the digits at i, of which there must be one.
func digits(doc []byte, i int) int {
	start := i
	for i < len(doc) && doc[i] >= '0' && doc[i] <= '9' {
		i++
	}
	if i == start {
		return gaveUp
	}
	return i
}

// literal returns the place behind true, false or null.
func literal(doc []byte, i int) int {
	for _, l := range [...]string{"null", "true", "false"} {
		if len(doc)-i >= len(l) && string(doc[i:i+len(l)]) == l {
			return i + len(l)
		}
	}
	return gaveUp
}
