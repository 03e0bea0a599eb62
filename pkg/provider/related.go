package provider

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Related is one further record, or a list of them. Those whose requests refer to
// another one, such as /teams/{related.customer.team_id}, wait for that; all
// others are asked for side by side.
type Related struct {
	// Get asks for it: a path such as /customers/{record.customer_id}, or
	// {graphql: …}. What is answered is taken as it is: where its id would be
	// is not known, so an API or a proxy that answers with another one is not
	// found out, as it is for the record. Required without List.
	Get Get `yaml:"get"`
	// List asks for all records of a list, page by page; their array is then the
	// related record. Excludes Get.
	List *List `yaml:"list"`
	// Optional says that it may be absent: a 404, or no value for a reference
	// of its path, then gives null. Otherwise that is an error. Defaults to
	// false.
	Optional bool `yaml:"optional"`
	// Cache is how old an answer may be that is used again, for records that
	// change rarely and are asked for often. Defaults to 0s: each is asked for
	// after its trigger was received.
	Cache time.Duration `yaml:"cache"`
	// Merge says where it stands. Defaults to nest.
	Merge Merge `yaml:"merge"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Related) Forms() []any { return []any{"", Related{}} }

// DecodeNode reads the short form, a path, and the long one.
func (r *Related) DecodeNode(n config.Node) {
	if n.Kind() == config.Scalar {
		n.Decode(&r.Get)
		return
	}
	n.Decode(r)
}

// Merge is where a related record stands: nest, beside the record under related;
// or {replace: record.customer}, in the record and in the place of a reference. A
// record that has no object to hold it there, and a related record that is absent,
// are left as with nest.
type Merge struct {
	// Replace is that place, a path of names.
	Replace string `yaml:"replace"`

	at field.Path
}

// nest is the text that a [Merge] may be.
type nest string

// Values lists it, for the schema of files.
func (nest) Values() []string { return []string{"nest"} }

// Forms lists what DecodeNode takes, for the schema of files.
func (Merge) Forms() []any { return []any{nest(""), Merge{}} }

// DecodeNode reads nest or the mapping.
func (m *Merge) DecodeNode(n config.Node) {
	*m = Merge{}
	if n.Kind() == config.Scalar && n.Text() == "nest" {
		return
	}
	const want = "nest, or {replace: a path of names such as record.customer}"
	if n.Kind() == config.Scalar || !n.Decode(m) {
		n.Fault(want)
		return
	}
	path, ok := strings.CutPrefix(m.Replace, "record.")
	var err error
	if m.at, err = field.ParsePath(path); err != nil || !ok || path == "" || m.at.Many() {
		n.Fault(want)
	}
}

// Into returns record with a related one in its place, and whether there is that
// place.
func (m Merge) Into(record, related []byte) ([]byte, bool) {
	if m.Replace == "" || len(related) == 0 {
		return record, false
	}
	merged, ok := m.at.Set(record, related)
	if !ok {
		return record, false
	}
	return merged, true
}

// List is how related records are listed.
type List struct {
	// Path lists them, such as /orders/{id}/lines. Required.
	Path Path `yaml:"path"`
	// Query are fixed query parameters.
	Query map[string]string `yaml:"query"`
	// Items is the path of the array of records in an answer. Defaults to the
	// whole answer.
	Items string `yaml:"items"`
	// Next says how to get the next page, by a cursor or an offset. Without it
	// there is one page.
	Next Next `yaml:"next"`
	// Limit asks for a page size.
	Limit PageSize `yaml:"limit"`
	// Max is the most records taken, which api.max_body bounds in sum. What lies
	// behind is left out, and the event says so: its truncated has the list's
	// name. Defaults to 500.
	Max int `yaml:"max"`

	items field.Path
}

// Forms lists what DecodeNode takes, for the schema of files.
func (List) Forms() []any { return []any{List{}} }

// DecodeNode sets the default, then reads the mapping over it.
func (l *List) DecodeNode(n config.Node) {
	l.Max = 500
	n.Decode(l)
}

// Validate reports every fault of the list.
func (l *List) Validate(c *config.Check) {
	if l.Path.IsZero() {
		c.Missing("path", "the path that lists them, such as /orders/{id}/lines")
	}
	if l.Max < 1 || l.Max > 10_000 {
		c.Fault("max", "", "1 to 10000")
	}
	if s := l.Next.shape; s == ByPage || s == Connection {
		c.Fault("next", string(s), "cursor, offset, link or after: related lists have no other pages")
	}
	var err error
	if l.items, err = field.ParsePath(l.Items); err != nil {
		c.Fault("items", "", "a path such as data.lines")
	}
}

// Request returns the request for the page at position of the list at path, which
// is Path with everything filled in. The first page's position is "".
func (l *List) Request(path, position string) (PageRequest, error) {
	return l.pages().Request(path, Place{Position: position})
}

// Page reads the answer to a request, as [Reconcile.Page] does.
func (l *List) Page(a PageRequest, base string, h http.Header, body []byte) (Page, error) {
	p, err := l.pages().Page(a, base, h, body)
	if err == nil && l.Next.shape == ByOffset && len(p.Records) > 0 {
		p.Next = strconv.Itoa(a.Front + len(p.Records)) // a related list is short: it isn't looked at twice
	}
	return p, err
}

func (l *List) pages() *Reconcile {
	return &Reconcile{Query: l.Query, Next: l.Next, Limit: l.Limit, items: l.items}
}

func (r *Resource) validateRelated(c *config.Check) {
	r.needs = map[string][]string{}
	replaced := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Related)) {
		rel, key := r.Related[name], "related."+name
		if rel.Get.IsZero() == (rel.List == nil) {
			c.Fault(key, "", "one of get, a path such as /customers/{record.customer_id}, and list")
		}
		if rel.Cache < 0 || rel.Cache > time.Hour {
			c.Fault(key+".cache", "", "0s to 1h")
		}
		if other, taken := replaced[rel.Merge.Replace]; taken && rel.Merge.Replace != "" {
			c.Fault(key+".merge", rel.Merge.Replace, "another place than that of "+other)
		}
		replaced[rel.Merge.Replace] = name
		for _, need := range rel.needs() {
			if _, ok := r.Related[need]; !ok {
				c.Fault(key, "a reference to related."+need, "one of the related records: "+strings.Join(slices.Sorted(maps.Keys(r.Related)), ", "))
				continue
			}
			r.needs[name] = append(r.needs[name], need)
		}
	}
	if cycle := r.cycle(); len(cycle) > 0 {
		c.Fault("related."+cycle[0], "a cycle: "+strings.Join(append(cycle, cycle[0]), ", "),
			"related records of which each can be asked for after those that it refers to")
	}
}

// needs are the names of the related records that the request refers to.
func (r Related) needs() []string {
	var names []string
	add := func(e field.Expr) {
		for p := range e.Paths("related") {
			name, _, _ := strings.Cut(p.String(), ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, e := range r.Get.exprs() {
		add(e)
	}
	if r.List != nil {
		add(r.List.Path.Expr)
	}
	return names
}

// Needs are the names of the related records without which that of the given name
// can't be asked for.
func (r Resource) Needs(name string) []string { return r.needs[name] }

// cycle returns the names of related records that wait for each other, or none.
func (r *Resource) cycle() []string {
	const on, done = 1, 2
	state := map[string]int{}
	var way []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case on:
			return way[slices.Index(way, name):]
		case done:
			return nil
		}
		state[name], way = on, append(way, name)
		for _, need := range r.needs[name] {
			if found := visit(need); found != nil {
				return found
			}
		}
		state[name], way = done, way[:len(way)-1]
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.needs)) {
		if found := visit(name); found != nil {
			return slices.Clone(found)
		}
	}
	return nil
}

// recordsAt returns the elements of the array at a path of an answer. Some APIs
// write null for an empty one.
func recordsAt(path field.Path, answer []byte) ([][]byte, error) {
	list, err := path.One(answer)
	if err != nil || list.Kind() == 'n' {
		return nil, err
	}
	all, err := field.Elements(list)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return all, nil
}
