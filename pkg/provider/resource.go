package provider

import (
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// Resource is a kind of record at a source: which triggers speak of it, how
// to get one and how to list many, and where a record's id and version are.
type Resource struct {
	// Triggers are the event types that speak of this resource. "*" stands for
	// one dot-separated part, ">" for the rest. Required.
	Triggers []string `yaml:"triggers"`
	// ID finds the record's id in a trigger. An expression with [] finds
	// several: the trigger then gives one event for each. Required.
	ID TriggerExpr `yaml:"id"`
	// Get is the path that returns one record, such as /orders/{id}. Required.
	Get Path `yaml:"get"`
	// Record is where the record is in the answer to Get, as a path such as
	// data. Defaults to the whole answer.
	Record string `yaml:"record"`
	// RecordID finds the id in a record. Defaults to record.id.
	RecordID RecordExpr `yaml:"record_id"`
	// Related are further records that complete this one, by name.
	Related map[string]Related `yaml:"related"`
	// Version finds what orders a record's versions: a number or a time that
	// grows with each change. Required.
	Version RecordExpr `yaml:"version"`
	// Coalesce delays each request for a record by so long, that further triggers
	// of the same record come together in it: for systems that send several
	// within a moment. Each trigger waits in one of the enricher's workers
	// meanwhile. Defaults to 0s.
	Coalesce time.Duration `yaml:"coalesce"`
	// Reconcile says how to list records. Without it nothing is reconciled.
	Reconcile *Reconcile `yaml:"reconcile"`

	unknown bool // named in a list, but the preset has no such resource
	record  field.Path
}

// Related is one further record.
type Related struct {
	// Get is its path, such as /customers/{record.customer_id}. Required.
	Get Path `yaml:"get"`
	// Optional says that it may be absent: a 404, or no value for a reference
	// of its path, then gives null. Otherwise that is an error. Defaults to
	// false.
	Optional bool `yaml:"optional"`
	// Cache is how old an answer may be that is used again, for records that
	// change rarely and are asked for often. Defaults to 0s: each is asked for
	// after its trigger was received.
	Cache time.Duration `yaml:"cache"`
}

// DecodeNode reads the short form, a path, and the long one.
func (r *Related) DecodeNode(n config.Node) {
	if n.Kind() == config.Scalar {
		n.Decode(&r.Get)
		return
	}
	n.Decode(r)
}

// Validate reports every fault of the resource.
func (r *Resource) Validate(c *config.Check) {
	if len(r.Triggers) == 0 {
		c.Missing("triggers", "the event types that speak of this resource, such as [order.*]")
	}
	if len(r.ID) == 0 {
		c.Missing("id", "where the record's id is in a trigger, such as body.order.id")
	}
	if r.ID.Uses("header") || r.ID.Uses("form") {
		c.Fault("id", "", "an expression over body: a request's headers and form are not kept with its trigger")
	}
	if r.ID.Uses("item") {
		c.Fault("id", "", "an expression over body, which is one event where requests are split")
	}
	if r.Get.IsZero() {
		c.Missing("get", "the path of one record, such as /orders/{id}")
	}
	if r.Version.IsZero() {
		c.Missing("version", "what orders a record's versions, such as record.updated_at")
	}
	if r.RecordID.IsZero() {
		r.RecordID = defaultRecordID
	}
	var err error
	if r.record, err = field.ParsePath(r.Record); err != nil {
		c.Fault("record", "", "a path such as data")
	}
	if r.Coalesce < 0 || r.Coalesce > 10*time.Second {
		c.Fault("coalesce", "", "0s to 10s")
	}
	for name, rel := range r.Related {
		if rel.Get.IsZero() {
			c.Missing("related."+name, "a path such as /customers/{record.customer_id}")
		}
		if rel.Cache < 0 || rel.Cache > time.Hour {
			c.Fault("related."+name+".cache", "", "0s to 1h")
		}
	}
}

var defaultRecordID = RecordExpr{mustParse("record.id", "record")}

func mustParse(text string, roots ...string) field.Expr {
	e, err := field.Parse(text, roots...)
	if err != nil {
		panic(err) // a constant of this package
	}
	return e
}

// Matches reports whether an event type speaks of the resource.
func (r Resource) Matches(typ string) bool {
	for _, pattern := range r.Triggers {
		if event.Match(pattern, typ) {
			return true
		}
	}
	return false
}

// Extract returns the record inside an API's answer to Get, or
// [field.ErrMissing].
func (r Resource) Extract(answer []byte) ([]byte, error) { return r.record.One(answer) }

// VersionOf returns a record's version.
func (r Resource) VersionOf(record []byte) (event.Version, error) {
	text, err := r.Version.In(record)
	if err != nil {
		return "", err
	}
	return event.ParseVersion(text)
}

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
	list, err := r.items.One(answer)
	if err != nil || list.Kind() == 'n' {
		return nil, err
	}
	return field.Elements(list)
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

// DecodeNode sets the default, then reads the mapping over it.
func (p *PageSize) DecodeNode(n config.Node) {
	p.Size = 100
	n.Decode(p)
	if p.Param == "" || p.Size < 1 || p.Size > 10_000 {
		n.Fault("{param: NAME, size: 1 to 10000}")
	}
}
