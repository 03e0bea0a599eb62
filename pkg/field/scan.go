package field

import "github.com/go-json-experiment/json/jsontext"

// Scan is a JSON document that was read once, with the values of some paths.
// In a [Scope] it saves expressions from reading it again.
type Scan struct {
	root   string
	paths  []Path           // none where the document wasn't read for them
	values []jsontext.Value // by path; nil where there is none
	few    [4]jsontext.Value
}

// maxScanned bounds the paths of a scan. More are read as if there were none.
const maxScanned = 64

// NewScan reads doc, which expressions call root, in one pass: strictly, with
// the errors of [Valid], and taking the value that each path finds. Paths with
// [] are left out, and all are if the document is an unusual one; expressions
// then read it themselves.
func NewScan(root string, doc []byte, paths []Path) (*Scan, error) {
	s := &Scan{root: root, paths: paths[:min(len(paths), maxScanned)]}
	if s.values = s.few[:]; len(s.paths) > len(s.few) {
		s.values = make([]jsontext.Value, len(s.paths))
	}
	if quickly(doc, s.paths, s.values) {
		return s, nil
	}
	if err := validSlowly(doc); err != nil {
		return nil, err
	}
	s.paths = nil
	return s, nil
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
