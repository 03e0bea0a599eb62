package provider

import (
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
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
