package provider

import (
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// TimeFormat is how an API writes times in a request.
type TimeFormat string

// The time formats. All are in UTC. Minute is 2006-01-02 15:04, as JQL has it,
// and Date 2006-01-02.
const (
	RFC3339     TimeFormat = "rfc3339"
	UnixSeconds TimeFormat = "unix"
	UnixMillis  TimeFormat = "unix_ms"
	Minute      TimeFormat = "minute"
	Date        TimeFormat = "date"
)

// Values lists the formats, for configuration errors.
func (TimeFormat) Values() []string {
	return []string{string(RFC3339), string(UnixSeconds), string(UnixMillis), string(Minute), string(Date)}
}

// Granule is the least time between two times that the format tells apart.
func (f TimeFormat) Granule() time.Duration {
	switch f {
	case UnixMillis:
		return time.Millisecond
	case Minute:
		return time.Minute
	case Date:
		return 24 * time.Hour
	default:
		return time.Second
	}
}

func (f TimeFormat) write(t time.Time) string {
	switch t = t.UTC(); f {
	case UnixSeconds:
		return strconv.FormatInt(t.Unix(), 10)
	case UnixMillis:
		return strconv.FormatInt(t.UnixMilli(), 10)
	case Minute:
		return t.Format("2006-01-02 15:04")
	case Date:
		return t.Format(time.DateOnly)
	default:
		return t.Format(time.RFC3339)
	}
}

// Bound is a filter by the time of change: since from a time on, until up to
// one. Whatever the API's filter is and its format can't hold, what it is asked
// for holds the window: a bound is moved outwards, never inwards.
type Bound struct {
	// Param is the query parameter. Where the request has a body it is the path
	// of the member that takes the time, and in a GraphQL query the variable.
	// Required in the long form.
	Param string `yaml:"param"`
	// Format is how it writes a time. Defaults to rfc3339.
	Format TimeFormat `yaml:"format"`
	// Exclusive says that the API leaves out records of exactly that time.
	// Defaults to false.
	Exclusive bool `yaml:"exclusive"`
	// Text is what the parameter holds, with {since} and, if need be, {until} in
	// it, such as 'updated >= "{since}" order by updated' in JQL. Only for since.
	// Defaults to the time alone.
	Text string `yaml:"text"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Bound) Forms() []any { return []any{"", Bound{}} }

// DecodeNode reads the short form, a parameter's name, and the long one.
func (b *Bound) DecodeNode(n config.Node) {
	*b = Bound{Format: RFC3339}
	if n.Kind() == config.Scalar {
		b.Param = n.Text()
		return
	}
	n.Decode(b)
	if b.Param == "" {
		n.Fault("{param: NAME, format: …} or the name alone")
	}
	if b.Text != "" && !strings.Contains(b.Text, "{since}") {
		n.Fault("a text with {since}")
	}
}

// granule is how exactly the bound can be told, or 0 where there is none.
func (b Bound) granule() time.Duration {
	if b.Param == "" {
		return 0
	}
	return b.Format.Granule()
}

// since writes the window's beginning: never later than it.
func (b Bound) since(t time.Time) string {
	t = t.Truncate(b.Format.Granule())
	if b.Exclusive {
		t = t.Add(-b.Format.Granule())
	}
	return b.Format.write(t)
}

// until writes the window's end: never earlier than it.
func (b Bound) until(t time.Time) string {
	low := t.Truncate(b.Format.Granule())
	if b.Exclusive || !low.Equal(t) {
		low = low.Add(b.Format.Granule())
	}
	return b.Format.write(low)
}

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
