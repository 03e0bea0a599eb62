package provider

import (
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Shape is how one page of a list leads to the next.
type Shape string

// The shapes, a closed set.
const (
	OnePage    Shape = ""
	ByCursor   Shape = "cursor"
	ByOffset   Shape = "offset"
	ByPage     Shape = "page"
	ByLink     Shape = "link"
	ByLastID   Shape = "after"
	Connection Shape = "connection"
)

// LinkHeader is the value of [Next.Link] for the header of that name.
const LinkHeader = "header"

// Edge is an end of a page.
type Edge string

// The edges.
const (
	Last  Edge = "last"
	First Edge = "first"
)

// Values lists the edges, for configuration errors.
func (Edge) Values() []string { return []string{string(Last), string(First)} }

// Next is how to get the next page. Exactly one of Cursor, Offset, Page, Link,
// After and Connection says so; the other fields go with some of them. Where
// the request has a body, parameters are paths of its members, and in a GraphQL
// query they are variables.
type Next struct {
	// Cursor is the path of the next page's cursor, or token, in an answer. Its
	// absence, null or "" ends the list.
	Cursor string `yaml:"cursor"`
	// Param is the parameter that takes the cursor. Defaults to the last part of
	// Cursor, and to after for Connection.
	Param string `yaml:"param"`
	// More is the path of a boolean in an answer that says whether a page
	// follows. With Cursor or After. Defaults to none: the cursor's absence, or
	// a page without records, ends the list.
	More string `yaml:"more"`
	// Offset is the parameter that takes a number of records. A page without
	// records, or with none but such as were listed before, ends the list: pages
	// overlap, since records move up while the list is read.
	Offset string `yaml:"offset"`
	// Page is the parameter that takes the number of a page. Needs limit beside
	// next: pages are asked for in such sizes that they overlap. The list ends
	// as that of Offset does.
	Page string `yaml:"page"`
	// From is the first page's number. Defaults to 1.
	From int `yaml:"from"`
	// Pages is the path of the number of pages in an answer, which saves asking
	// for one page more than there are. Defaults to none.
	Pages string `yaml:"pages"`
	// Link says where an answer has the address of the next page: header, for
	// a Link header with rel=next, or a path such as pagination.next_page. Its
	// absence, null or "" ends the list. It must lead to a path below the API's
	// base.
	Link string `yaml:"link"`
	// Stable says that a link names the record at which its page begins, so that
	// nothing can move over its border. Otherwise each page is asked for a
	// second time after the one behind it, to see whether it still ends as it
	// did. APIs whose links only count pages are better read by Page. Defaults
	// to false.
	Stable bool `yaml:"stable"`
	// After is the parameter that takes the id of the last record listed, such as
	// starting_after.
	After string `yaml:"after"`
	// Value finds that id in a record. Defaults to record.id.
	Value RecordExpr `yaml:"value"`
	// Of is the record of a page whose id leads on: last, or first where pages
	// go up while each begins with its newest record, as with ending_before.
	// Defaults to last.
	Of Edge `yaml:"of"`
	// Start is the id that the first page is asked for with. Defaults to none.
	Start string `yaml:"start"`
	// Connection is the path of a GraphQL connection in an answer, such as
	// data.issues. Its nodes are the records, and its pageInfo says whether a
	// page follows and after which cursor.
	Connection string `yaml:"connection"`

	shape                     Shape
	cursor, more, pages, link field.Path
}

// Shape returns which of the shapes it is.
func (x Next) Shape() Shape { return x.shape }

// Counted reports whether a position is a number of records, which names other
// records when the list has moved.
func (x Next) Counted() bool { return x.shape == ByOffset || x.shape == ByPage }

// Forms lists what DecodeNode takes, for the schema of files.
func (Next) Forms() []any { return []any{"", Next{}} }

// DecodeNode reads the short form, a cursor, and the long one.
func (x *Next) DecodeNode(n config.Node) {
	*x = Next{From: 1}
	if n.Kind() == config.Scalar {
		x.Cursor = n.Text()
	} else if !n.Decode(x) {
		return
	}
	if !x.choose(n) || !x.fits(n) {
		return
	}
	switch x.shape {
	case ByCursor:
		if x.Param == "" {
			x.Param = x.Cursor[strings.LastIndexByte(x.Cursor, '.')+1:]
		}
	case Connection:
		x.Cursor, x.More = x.Connection+".pageInfo.endCursor", x.Connection+".pageInfo.hasNextPage"
		if x.Param == "" {
			x.Param = "after"
		}
	case ByLastID:
		if x.Value.IsZero() {
			x.Value = defaultRecordID()
		}
		if x.Of == "" {
			x.Of = Last
		}
	}
	x.parse(n)
}

// choose finds the shape: the one that is set.
func (x *Next) choose(n config.Node) bool {
	set := 0
	for shape, value := range map[Shape]string{
		ByCursor: x.Cursor, ByOffset: x.Offset, ByPage: x.Page, ByLink: x.Link, ByLastID: x.After, Connection: x.Connection,
	} {
		if value != "" {
			set++
			x.shape = shape
		}
	}
	if set != 1 {
		n.Fault("one of cursor, offset, page, link, after and connection")
		return false
	}
	return true
}

// fits reports what doesn't go with the shape.
func (x *Next) fits(n config.Node) bool {
	ok := true
	for _, f := range []struct {
		key  string
		with []Shape
	}{
		{"param", []Shape{ByCursor, Connection}},
		{"more", []Shape{ByCursor, ByLastID}},
		{"from", []Shape{ByPage}},
		{"pages", []Shape{ByPage}},
		{"stable", []Shape{ByLink}},
		{"value", []Shape{ByLastID}},
		{"of", []Shape{ByLastID}},
		{"start", []Shape{ByLastID}},
	} {
		child, there := n.Child(f.key)
		if !there {
			continue
		}
		fit, names := false, make([]string, len(f.with))
		for i, s := range f.with {
			fit, names[i] = fit || s == x.shape, string(s)
		}
		if !fit {
			child.Fault(strings.Join(names, " or ") + " beside it, or nothing here")
			ok = false
		}
	}
	if x.From < 0 {
		n.Fault("from: 0 or more")
		ok = false
	}
	return ok
}

func (x *Next) parse(n config.Node) {
	for _, p := range []struct {
		text string
		into *field.Path
	}{{x.Cursor, &x.cursor}, {x.More, &x.more}, {x.Pages, &x.pages}, {x.Link, &x.link}} {
		var err error
		if *p.into, err = field.ParsePath(p.text); err != nil || p.into.Many() {
			n.Fault("paths such as meta.next_cursor")
			return
		}
	}
}

// param is the parameter that takes a position, or "" where a link has it.
func (x Next) param() string {
	switch x.shape {
	case ByOffset:
		return x.Offset
	case ByPage:
		return x.Page
	case ByLastID:
		return x.After
	default:
		return x.Param
	}
}
