package provider

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Reconcile says how a resource is listed and how often.
type Reconcile struct {
	// Every is the time between two runs, or {cron: EXPRESSION, zone: ZONE}.
	// Defaults to 1h.
	Every Schedule `yaml:"every"`
	// List is the path that lists records. Required.
	List Path `yaml:"list"`
	// Body is the JSON object that is sent to List in a POST, for APIs that
	// search. Parameters then are paths of its members, such as
	// filters.0.value; what has no value yet (a cursor on the first page, a time
	// where the first run begins at the beginning) keeps what stands there.
	// Defaults to none: List is got.
	Body string `yaml:"body"`
	// GraphQL is the query that is sent to List in a POST. Parameters then are
	// its variables, and those without a value yet are left out. Excludes Body.
	GraphQL string `yaml:"graphql"`
	// Query are fixed query parameters, such as state: all.
	Query map[string]string `yaml:"query"`
	// Items is the path of the array of records in an answer. Defaults to the
	// nodes of next.connection, or to the whole answer.
	Items string `yaml:"items"`
	// Since asks for records changed at or after a time. Without it every run
	// lists everything.
	Since Bound `yaml:"since"`
	// Until asks for records changed up to a time, for APIs that want both ends.
	// Defaults to no end.
	Until Bound `yaml:"until"`
	// Slice cuts a window into parts that are listed one after the other. Needs
	// both ends, and Start. Defaults to the whole window.
	Slice Slice `yaml:"slice"`
	// States are the states in which records are listed separately. A record
	// that goes from one to another counts as changed. Defaults to one list.
	States States `yaml:"states"`
	// Order is how the API sorts by the time of change. Defaults to unordered.
	Order Order `yaml:"order"`
	// Next says how to get the next page. Without it there is one page.
	Next Next `yaml:"next"`
	// Total is the path of the number of all records in an answer, such as
	// meta.total. By it a backfill tells how much is left. Defaults to none.
	Total string `yaml:"total"`
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
	// Against is what records are compared with: ledger, and the databases among
	// the destinations, as destination:NAME. Defaults to [ledger].
	Against []string `yaml:"against"`
	// MaxPages bounds one run; it goes on where it was at the next. Defaults
	// to 10000.
	MaxPages int `yaml:"max_pages"`
	// Deletes says when to look for records that are held and are gone at the
	// source. Defaults to only when somebody asks for it.
	Deletes *Deletes `yaml:"deletes"`

	items, total field.Path
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
	if r.Every == (Schedule{}) {
		r.Every.Interval = time.Hour
	}
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

// Validate reports every fault of the reconciliation.
func (r *Reconcile) Validate(c *config.Check) {
	if r.MaxPages < 1 {
		c.Fault("max_pages", "", "at least 1")
	}
	if r.Items == "" && r.Next.Connection != "" {
		r.Items = r.Next.Connection + ".nodes"
	}
	var err error
	if r.items, err = field.ParsePath(r.Items); err != nil {
		c.Fault("items", "", "a path such as data.orders")
	}
	if r.total, err = field.ParsePath(r.Total); err != nil || r.total.Many() {
		c.Fault("total", "", "a path such as meta.total")
	}
	r.validateAgainst(c)
	r.validateShape(c)
	r.validateBounds(c)
	r.validateParams(c)
}

// validateShape reports settings that contradict how pages follow each other.
func (r *Reconcile) validateShape(c *config.Check) {
	if r.Next.Page != "" && (r.Limit.Param == "" || r.Limit.Size < minNumbered) {
		c.Fault("next.page", "", fmt.Sprintf("limit: {param: NAME, size: %d or more} beside next, so that pages can overlap", minNumbered))
	}
	if r.Next.Connection != "" && r.GraphQL == "" {
		c.Fault("next.connection", "", "graphql beside next")
	}
	if r.Next.Link != "" && r.posts() {
		c.Fault("next.link", "", "no body and no graphql: a link is followed with a GET")
	}
	if r.Next.Of == First && r.Order == Descending {
		c.Fault("next.of", "", "last, or order: ascending: pages that lead on by their first record go up")
	}
}

// validateBounds reports settings that contradict how a window is asked for.
func (r *Reconcile) validateBounds(c *config.Check) {
	granule := max(r.Since.granule(), r.Until.granule())
	if r.Overlap < granule {
		c.Fault("overlap", r.Overlap.String(), fmt.Sprintf("at least %s, which is how exactly the API tells times apart", granule))
	}
	if r.Until.Text != "" {
		c.Fault("until.text", "", "{until} in since.text")
	}
	inText := strings.Contains(r.Since.Text, "{until}")
	if inText && r.Until.Param != "" {
		c.Fault("until", "", "nothing here, since since.text has it")
	}
	if r.Slice.Every == 0 {
		return
	}
	if r.Since.Param == "" || r.Until.Param == "" && !inText {
		c.Fault("slice", "", "since and until beside it")
	}
	if r.Start == 0 {
		c.Fault("slice", "", "start beside it: how far back the first run looks")
	}
	if r.Slice.Every < granule {
		c.Fault("slice", r.Slice.Every.String(), fmt.Sprintf("at least %s, which is how exactly the API tells times apart", granule))
	}
}

// validateParams reports parameters that have no place, or that of another.
func (r *Reconcile) validateParams(c *config.Check) {
	if r.Body != "" && r.GraphQL != "" {
		c.Fault("body", "", "either body or graphql")
		return
	}
	var body any
	if r.Body != "" {
		if field.Valid([]byte(r.Body)) != nil || json.Unmarshal([]byte(r.Body), &body) != nil || !isObject(body) {
			c.Fault("body", "", "the text of a JSON object")
			return
		}
	}
	taken := map[string]string{}
	for _, p := range []struct{ key, name string }{
		{"since.param", r.Since.Param},
		{"until.param", r.Until.Param},
		{"states.param", r.States.Param},
		{"limit.param", r.Limit.Param},
		{"next", r.Next.param()},
	} {
		if p.name == "" {
			continue
		}
		if other, twice := taken[p.name]; twice {
			c.Fault(p.key, strconv.Quote(p.name), "a parameter of its own: "+other+" has it")
		}
		taken[p.name] = p.key
		if _, fixed := r.Query[p.name]; fixed && !r.posts() {
			c.Fault("query."+p.name, "", "nothing here: "+p.key+" sets it")
		}
		if r.posts() && !placeable(body, r.member(p.name)) {
			c.Fault(p.key, strconv.Quote(p.name), "the path of a member of the body")
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
