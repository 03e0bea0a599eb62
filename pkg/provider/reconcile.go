package provider

import (
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Reconcile says how a resource is listed and how often.
type Reconcile struct {
	// Every is the time between two runs. Defaults to 1h.
	Every time.Duration `yaml:"every"`
	// List is the path that lists records. Required.
	List Path `yaml:"list"`
	// Query are fixed query parameters, such as state: all.
	Query map[string]string `yaml:"query"`
	// Items is the path of the array of records in an answer. Defaults to the
	// whole answer.
	Items string `yaml:"items"`
	// Since asks for records changed at or after a time. Without it every run
	// lists everything.
	Since Since `yaml:"since"`
	// Order is how the API sorts by the time of change. Defaults to unordered.
	Order Order `yaml:"order"`
	// Next says how to get the next page. Without it there is one page.
	Next Next `yaml:"next"`
	// Limit asks for a page size.
	Limit PageSize `yaml:"limit"`
	// Time finds when a record was last changed, to leave out what is younger
	// than Settle. Defaults to the version where that is a time.
	Time RecordExpr `yaml:"time"`
	// Overlap is how far before the last window's end the next one begins.
	// Defaults to 10m.
	Overlap time.Duration `yaml:"overlap"`
	// Settle keeps the youngest changes out of the window: their webhooks may
	// still be on the way. Defaults to 2m.
	Settle time.Duration `yaml:"settle"`
	// Start is how far back the first run looks. 0 means to the beginning.
	// Defaults to 0.
	Start time.Duration `yaml:"start"`
	// Against is what records are compared with: ledger. Defaults to [ledger].
	Against []string `yaml:"against"`
	// MaxPages bounds one run; it goes on where it was at the next. Defaults
	// to 10000.
	MaxPages int `yaml:"max_pages"`

	items field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Reconcile) Forms() []any { return []any{Reconcile{}} }

// DecodeNode sets the defaults, then reads the mapping over them.
func (r *Reconcile) DecodeNode(n config.Node) {
	r.setDefaults()
	n.Decode(r)
}

func (r *Reconcile) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&r.Every, time.Hour)
	set(&r.Overlap, 10*time.Minute)
	set(&r.Settle, 2*time.Minute)
	if r.Order == "" {
		r.Order = Unordered
	}
	if r.MaxPages == 0 {
		r.MaxPages = 10_000
	}
	if len(r.Against) == 0 {
		r.Against = []string{AgainstLedger}
	}
}

// AgainstLedger compares listed records with the pipeline's own ledger.
const AgainstLedger = "ledger"

// Validate reports every fault of the reconciliation.
func (r *Reconcile) Validate(c *config.Check) {
	if r.List.IsZero() {
		c.Missing("list", "the path that lists records, such as /orders")
	}
	if r.Every < time.Second {
		c.Fault("every", "", "at least 1s")
	}
	if r.MaxPages < 1 {
		c.Fault("max_pages", "", "at least 1")
	}
	var err error
	if r.items, err = field.ParsePath(r.Items); err != nil {
		c.Fault("items", "", "a path such as data.orders")
	}
	for _, a := range r.Against {
		if a != AgainstLedger {
			c.OneOf("against", a, []string{AgainstLedger})
		}
	}
}

// Records returns the records in an API's answer to List, as slices of it, in
// its order, or an error when the array is not there. Some APIs write null for
// an empty one.
func (r *Reconcile) Records(answer []byte) ([][]byte, error) {
	return recordsAt(r.items, answer)
}

// Order is how a list is sorted by the time of change.
type Order string

// The orders.
const (
	Ascending  Order = "ascending"
	Descending Order = "descending"
	Unordered  Order = "unordered"
)

// Values lists the orders, for configuration errors.
func (Order) Values() []string {
	return []string{string(Ascending), string(Descending), string(Unordered)}
}

// TimeFormat is how an API writes times in a query.
type TimeFormat string

// The time formats.
const (
	RFC3339     TimeFormat = "rfc3339"
	UnixSeconds TimeFormat = "unix"
	UnixMillis  TimeFormat = "unix_ms"
)

// Values lists the formats, for configuration errors.
func (TimeFormat) Values() []string {
	return []string{string(RFC3339), string(UnixSeconds), string(UnixMillis)}
}

// Since is the filter by time of change.
type Since struct {
	// Param is the query parameter. Required in the long form.
	Param string `yaml:"param"`
	// Format is how it writes a time. Defaults to rfc3339.
	Format TimeFormat `yaml:"format"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Since) Forms() []any { return []any{"", Since{}} }

// DecodeNode reads the short form, a parameter's name, and the long one.
func (s *Since) DecodeNode(n config.Node) {
	s.Format = RFC3339
	if n.Kind() == config.Scalar {
		s.Param = n.Text()
		return
	}
	n.Decode(s)
}

// Next is how to get the next page: by a cursor that the answer holds, or by
// an offset that grows by the number of records seen.
type Next struct {
	// Cursor is the path of the next page's cursor in an answer. Its absence,
	// null or "" ends the list.
	Cursor string `yaml:"cursor"`
	// Param is the query parameter that takes the cursor. Defaults to the last
	// part of Cursor.
	Param string `yaml:"param"`
	// Offset is the query parameter that takes an offset. Excludes Cursor. An
	// empty page ends the list.
	Offset string `yaml:"offset"`

	cursor field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Next) Forms() []any { return []any{"", Next{}} }

// DecodeNode reads the short form, a cursor, and the long one.
func (x *Next) DecodeNode(n config.Node) {
	if n.Kind() == config.Scalar {
		x.Cursor = n.Text()
	} else {
		n.Decode(x)
	}
	if x.Cursor != "" && x.Offset != "" {
		n.Fault("either cursor or offset")
	}
	var err error
	if x.cursor, err = field.ParsePath(x.Cursor); err != nil {
		n.Fault("a path such as meta.next_cursor")
	}
	if x.Param == "" && x.Cursor != "" {
		x.Param = x.Cursor[strings.LastIndexByte(x.Cursor, '.')+1:]
	}
}

// CursorIn returns the next page's cursor in an answer, or "" at the end.
func (x Next) CursorIn(answer []byte) (string, error) {
	v, err := x.cursor.One(answer)
	if err == nil {
		var text string
		if text, err = field.Text(v); err == nil {
			return text, nil
		}
	}
	if isMissing(err) {
		return "", nil
	}
	return "", err
}

// PageSize asks an API for pages of a size.
type PageSize struct {
	// Param is the query parameter. Required.
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
