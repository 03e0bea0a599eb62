package field

import (
	"bytes"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Scan is a JSON document that was read once, with the values of some paths.
// In a [Scope] it saves expressions from reading it again.
type Scan struct {
	root   string
	paths  []Path
	values []jsontext.Value // by path; nil where there is none
}

// maxScanned bounds the paths of a scan. More are read as if there were none.
const maxScanned = 64

// NewScan reads doc, which expressions call root, in one pass: strictly, with
// the errors of [Valid], and taking the value that each path finds. Paths with
// [] are left out.
func NewScan(root string, doc []byte, paths []Path) (*Scan, error) {
	s := &Scan{root: root, paths: paths[:min(len(paths), maxScanned)]}
	s.values = make([]jsontext.Value, len(s.paths))
	r := scanReaders.Get().(*scanReader) //nolint:forcetypeassert // the pool's New makes nothing else
	defer r.release()
	r.doc, r.scan = doc, s
	r.buffer = *bytes.NewBuffer(doc)
	r.dec.Reset(&r.buffer)
	var all uint64
	for i, p := range s.paths {
		if !p.Many() {
			all |= 1 << i
		}
	}
	err := r.value(0, all)
	if err == nil && len(bytes.TrimLeft(doc[r.dec.InputOffset():], " \t\r\n")) == 0 {
		return s, nil
	}
	if strict := Valid(doc); strict != nil {
		err = strict // it says where
	}
	return nil, err
}

// find returns what the scan knows of a reference.
func (s *Scan) find(p part) (v jsontext.Value, known bool) {
	if s == nil || s.root != p.root {
		return nil, false
	}
	for i, path := range s.paths {
		if path.same(p.path) {
			return s.values[i], !path.Many()
		}
	}
	return nil, false
}

// same reports whether two paths are copies of one.
func (p Path) same(q Path) bool {
	return len(p.segments) == len(q.segments) && (len(p.segments) == 0 || &p.segments[0] == &q.segments[0])
}

// scanReader is one pass over a document.
type scanReader struct {
	dec    jsontext.Decoder
	buffer bytes.Buffer
	doc    []byte
	scan   *Scan
}

var scanReaders = sync.Pool{New: func() any { return new(scanReader) }}

// release leaves nothing of the document behind.
func (r *scanReader) release() {
	r.buffer, r.doc, r.scan = bytes.Buffer{}, nil, nil
	r.dec.Reset(&r.buffer)
	scanReaders.Put(r)
}

// value reads the next value, which lies where the first depth segments of the
// live paths lead to.
func (r *scanReader) value(depth int, live uint64) error {
	deeper := r.match(live, func(p Path) bool { return len(p.segments) > depth })
	if ended := live &^ deeper; ended != 0 || deeper == 0 {
		return r.take(depth, ended, deeper)
	}
	switch r.dec.PeekKind() {
	case '{':
		return r.object(depth, deeper)
	case '[':
		return r.array(depth, deeper)
	default:
		return r.skip()
	}
}

// take reads the whole value for those paths that end here, and looks into it
// for the others.
func (r *scanReader) take(depth int, ended, deeper uint64) error {
	if ended == 0 {
		return r.skip()
	}
	v, err := readSlice(r.doc, &r.dec)
	if err != nil {
		return err
	}
	for i, p := range r.scan.paths {
		switch bit := uint64(1) << i; {
		case ended&bit != 0:
			r.scan.values[i] = v
		case deeper&bit != 0:
			if found, err := (Path{p.segments[depth:]}).One(v); err == nil {
				r.scan.values[i] = found
			}
		}
	}
	return nil
}

// skip reads a whole value. It is as strict as the decoder's SkipValue, and
// twice as fast, since it doesn't stop at each token.
func (r *scanReader) skip() error {
	_, err := r.dec.ReadValue()
	return err
}

func (r *scanReader) object(depth int, live uint64) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	var buf [64]byte
	for r.dec.PeekKind() == '"' {
		quoted, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(buf[:0], quoted); err != nil {
				return err
			}
		}
		if err := r.value(depth+1, r.match(live, func(p Path) bool { return p.segments[depth].name == string(name) })); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

func (r *scanReader) array(depth int, live uint64) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; r.dec.PeekKind() != ']'; i++ {
		if err := r.value(depth+1, r.match(live, func(p Path) bool { return p.segments[depth].index == i })); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// match returns those of the live paths that fit.
func (r *scanReader) match(live uint64, fits func(Path) bool) (matching uint64) {
	for i, p := range r.scan.paths {
		if bit := uint64(1) << i; live&bit != 0 && fits(p) {
			matching |= bit
		}
	}
	return matching
}
