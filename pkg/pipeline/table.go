package pipeline

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// Table is a table of the user's own, with a row for each record (mode upsert)
// or for each event (mode insert). When the sink opens it, it is compared with
// what is said here.
type Table struct {
	// Name is the table, with its schema if that isn't in the search_path.
	// Required.
	Name string `yaml:"name"`
	// Key are the columns of a unique index of the table that tell rows apart.
	// They are filled from attributes of the event, among them record_id in mode
	// upsert and id in mode insert; and source, account and, in mode upsert, resource
	// where events of several come to the table. Required.
	Key []string `yaml:"key"`
	// Columns say where the value of each column comes from: an attribute of the
	// event (id, source, account, type, resource, record_id, version, origin,
	// delivery_id, time, received_at, observed_at) or a path in its body, such as
	// record.status, related.customer.name or trigger.reason. What isn't there
	// is NULL; objects and arrays fit into columns of JSON. Required.
	Columns map[string]Column `yaml:"columns"`
	// Version is a column of text which keeps the version that the row has, by
	// which the newest wins. Required in mode upsert.
	Version string `yaml:"version"`
	// Observed is a column of timestamptz for when that version was seen at the
	// source. Required in mode upsert.
	Observed string `yaml:"observed"`
	// Deleted is a column of timestamptz for when the record was last seen to be
	// gone. A record is deleted when that is later than Observed, or when it has
	// no version. Required in mode upsert.
	Deleted string `yaml:"deleted"`
}

// validate reports what is wrong with the table in the given mode.
func (t *Table) validate(c *config.Check, mode PostgresMode) {
	if t.Name == "" {
		c.Missing("table.name", "the name of a table")
	}
	if len(t.Key) == 0 {
		c.Missing("table.key", "the columns of a unique index")
	}
	identity := "id"
	if mode == Upsert {
		identity = "record_id"
		for key, column := range map[string]string{"version": t.Version, "observed": t.Observed, "deleted": t.Deleted} {
			if column == "" {
				c.Missing("table."+key, "a column")
			} else if _, twice := t.Columns[column]; twice {
				c.Fault("table."+key, column, "a column of its own, which nothing else fills")
			}
		}
	}
	if len(t.Columns) == 0 {
		c.Missing("table.columns", "at least the columns of the key")
	}
	found := false
	for _, name := range t.Key {
		column := t.Columns[name]
		if column.attribute == nil {
			c.Fault("table.key", name, "columns that are filled from attributes of the event, which a deletion has too")
		}
		found = found || column.text == identity
	}
	if !found && len(t.Key) > 0 {
		c.Fault("table.key", "", "a column for "+identity+" among them, or different ones would share a row")
	}
}

// attributes are what columns may take from an event, "" for nothing.
var attributes = map[string]func(event.Event) string{
	"id":          func(e event.Event) string { return e.ID },
	"source":      func(e event.Event) string { return e.Source },
	"account":     func(e event.Event) string { return e.Account },
	"type":        func(e event.Event) string { return e.Type },
	"resource":    func(e event.Event) string { return e.Resource },
	"record_id":   func(e event.Event) string { return e.RecordID },
	"version":     func(e event.Event) string { return string(e.Version) },
	"origin":      func(e event.Event) string { return string(e.Origin) },
	"delivery_id": func(e event.Event) string { return e.DeliveryID },
	"time":        func(e event.Event) string { return stamp(e.Time) },
	"received_at": func(e event.Event) string { return stamp(e.ReceivedAt) },
	"observed_at": func(e event.Event) string { return stamp(e.ObservedAt) },
}

// stamp is t in RFC 3339, "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Column is where a column's value comes from.
type Column struct {
	text      string
	attribute func(event.Event) string
	path      field.Path
}

// ParseColumn reads an attribute's name or a path below trigger, record or
// related.
func ParseColumn(text string) (Column, error) {
	if attribute := attributes[text]; attribute != nil {
		return Column{text: text, attribute: attribute}, nil
	}
	root, _, _ := strings.Cut(text, ".")
	path, err := field.ParsePath(text)
	if err != nil || path.Many() || !slices.Contains([]string{"trigger", "record", "related"}, root) {
		return Column{}, errColumn
	}
	return Column{text: text, path: path}, nil
}

var errColumn = errors.New("want a path such as record.status, related.customer.name or trigger.reason, or one of " +
	strings.Join(slices.Sorted(maps.Keys(attributes)), ", "))

// Forms lists what DecodeNode takes, for the schema of files.
func (Column) Forms() []any { return []any{""} }

// DecodeNode reads the column from a pipeline file.
func (c *Column) DecodeNode(n config.Node) {
	var err error
	if *c, err = ParseColumn(n.Text()); err != nil {
		n.Fault(strings.TrimPrefix(err.Error(), "want "))
	}
}

// Always reports whether every event has a value for the column, or every one that
// speaks of a record.
func (c Column) Always(ofRecord bool) bool {
	switch c.text {
	case "id", "source", "account", "type", "origin":
		return true
	case "record_id", "resource":
		return ofRecord
	default:
		return false
	}
}

// Value returns the column's value for an event and its whole body, as JSON,
// or nil if there is none.
func (c Column) Value(e event.Event, body []byte) jsontext.Value {
	if c.attribute != nil {
		text := c.attribute(e)
		if text == "" {
			return nil
		}
		v, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			return nil // no UTF-8, which no attribute of a stored event lacks
		}
		return v
	}
	v, err := c.path.One(body)
	if err != nil || v.Kind() == 'n' {
		return nil
	}
	return v
}
