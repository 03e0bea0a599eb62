package provider

import (
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Slice cuts a window into times that are listed one after the other, for APIs
// that need both ends or list only so many records of one request.
type Slice struct {
	// Every is the length of a slice. Required.
	Every time.Duration `yaml:"every"`
	// Most is how many records the API lists at most, whatever the number of
	// pages; where next is an offset, less the size of a page. A slice with more
	// is halved. Needs Total. Defaults to 0: no limit.
	Most int `yaml:"most"`
	// Total is the path of the number of all records in an answer, such as total.
	Total string `yaml:"total"`

	total field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Slice) Forms() []any { return []any{time.Duration(0), Slice{}} }

// DecodeNode reads the short form, a length, and the long one.
func (s *Slice) DecodeNode(n config.Node) {
	*s = Slice{}
	if n.Kind() == config.Scalar {
		n.Decode(&s.Every)
	} else {
		n.Decode(s)
	}
	if s.Every < time.Second {
		n.Fault("a length of 1s or more, such as 24h")
	}
	if s.Most < 0 || (s.Most > 0) != (s.Total != "") {
		n.Fault("most, a number of records, and total, the path of their number in an answer, together")
	}
	var err error
	if s.total, err = field.ParsePath(s.Total); err != nil {
		n.Fault("a path such as total")
	}
}

// States are lists that together are the resource's, for APIs that list only
// records in one state at a time. Each is listed as a whole in every window.
type States struct {
	// Param is the query parameter, or what [Bound.Param] is where there is a
	// body. Required.
	Param string `yaml:"param"`
	// Values are the states. At least two.
	Values []string `yaml:"values"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (States) Forms() []any { return []any{States{}} }

// DecodeNode reads the mapping.
func (s *States) DecodeNode(n config.Node) {
	*s = States{}
	n.Decode(s)
	if s.Param == "" || len(s.Values) < 2 {
		n.Fault("{param: NAME, values: [at least, two]}")
	}
}

// PageSize asks an API for pages of a size.
type PageSize struct {
	// Param is the query parameter, or what [Bound.Param] is where there is a
	// body. Required.
	Param string `yaml:"param"`
	// Size is the number of records. Defaults to 100.
	Size int `yaml:"size"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (PageSize) Forms() []any { return []any{PageSize{}} }

// DecodeNode sets the default, then reads the mapping over it.
func (p *PageSize) DecodeNode(n config.Node) {
	p.Size = 100
	n.Decode(p)
	if p.Param == "" || p.Size < 1 || p.Size > 10_000 {
		n.Fault("{param: NAME, size: 1 to 10000}")
	}
}
