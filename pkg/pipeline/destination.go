package pipeline

import (
	"fmt"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/mapping"
)

// Destination takes the enriched events that it subscribes to. It has exactly
// one kind.
type Destination struct {
	// Postgres writes to a PostgreSQL database.
	Postgres *Postgres `yaml:"postgres"`
	// SQLite writes to a database file.
	SQLite *SQLite `yaml:"sqlite"`
	// Files writes NDJSON files.
	Files *Files `yaml:"files"`
	// HTTP sends webhooks to a server.
	HTTP *HTTP `yaml:"http"`
	// NATS publishes to another stream or cluster.
	NATS *Relay `yaml:"nats"`
	// S3 writes objects to an S3-compatible store.
	S3 *S3 `yaml:"s3"`
	// When is a jq expression that says true of the events that the destination is
	// to have, such as '.record.total > 100'; see package mapping for what it sees.
	// It is asked of those that it subscribes to. Defaults to all.
	When mapping.Expr `yaml:"when"`
	// Map is a jq expression that makes what the destination has of an event, such
	// as '{id: .record.id, who: .related.customer.email}'. For http and nats that is
	// the body; other kinds store it as the event's record, without a trigger and
	// related records. Attributes, such as id, type and version, stay as they are.
	// Defaults to none.
	Map mapping.Expr `yaml:"map"`
	// Subscribe are patterns SOURCE.ACCOUNT.TYPE over enriched subjects, where
	// "*" stands for one part and ">" for the rest. Defaults to [">"].
	Subscribe []string `yaml:"subscribe"`
}

// kinds are the kinds of destination in the order of their fields, each with
// whether a destination is of it.
var kinds = []struct {
	name string
	is   func(Destination) bool
}{
	{"postgres", func(d Destination) bool { return d.Postgres != nil }},
	{"sqlite", func(d Destination) bool { return d.SQLite != nil }},
	{"files", func(d Destination) bool { return d.Files != nil }},
	{"http", func(d Destination) bool { return d.HTTP != nil }},
	{"nats", func(d Destination) bool { return d.NATS != nil }},
	{"s3", func(d Destination) bool { return d.S3 != nil }},
}

// Kinds returns the keys of all kinds of destination.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Kind returns the key of the destination's one kind. It is an error to have
// none or several.
func (d *Destination) Kind() (string, error) {
	var kind string
	for _, k := range kinds {
		if !k.is(*d) {
			continue
		}
		if kind != "" {
			return "", errKinds
		}
		kind = k.name
	}
	if kind == "" {
		return "", errKinds
	}
	return kind, nil
}

var errKinds = fmt.Errorf("want exactly one kind of destination: %s", strings.Join(Kinds(), ", "))

// SQLite is a database file with two tables: events, every event once, and
// records, the newest version of each record.
type SQLite struct {
	// Path is the database file; its folder must exist. Required.
	Path string `yaml:"path"`
}

// Validate reports a missing path.
func (s *SQLite) Validate(c *config.Check) {
	if s.Path == "" {
		c.Missing("path", "the path of a database file")
	}
}

// Files is a folder of NDJSON files, one event a line.
type Files struct {
	// Dir is the folder, made if it doesn't exist. Required.
	Dir string `yaml:"dir"`
	// MaxSize is when a file is closed and the next one begun. Defaults to
	// 64MiB.
	MaxSize config.Bytes `yaml:"max_size"`
}

// Validate reports a missing folder and fills in the default.
func (f *Files) Validate(c *config.Check) {
	if f.Dir == "" {
		c.Missing("dir", "the path of a folder")
	}
	if f.MaxSize == 0 {
		f.MaxSize = 64 << 20
	}
}

// Validate reports what is wrong with the choice of a kind and with the
// patterns. Each kind checks itself.
func (d *Destination) Validate(c *config.Check) {
	if _, err := d.Kind(); err != nil {
		c.Fault("", "", strings.TrimPrefix(err.Error(), "want "))
	}
	if len(d.Subscribe) == 0 {
		d.Subscribe = []string{">"}
	}
	validateSubscribe(c, d.Subscribe)
}

// Subjects are the enriched subjects that the destination takes.
func (d *Destination) Subjects() []string { return enriched(d.Subscribe) }

func validateSubscribe(c *config.Check, patterns []string) {
	for i, p := range patterns {
		if !validPattern(p) {
			c.Fault(fmt.Sprintf("subscribe[%d]", i), "", `a pattern such as "orders.>" or "stripe.*.invoice.>"`)
		}
		for _, other := range patterns[:i] {
			if overlap(strings.Split(p, "."), strings.Split(other, ".")) {
				c.Fault(fmt.Sprintf("subscribe[%d]", i), "", fmt.Sprintf("patterns that take no subject twice; %q does too", other))
			}
		}
	}
}

// enriched are the subjects that patterns stand for.
func enriched(patterns []string) []string {
	subjects := make([]string, len(patterns))
	for i, p := range patterns {
		subjects[i] = event.PrefixEnriched + "." + p
	}
	return subjects
}

func validPattern(p string) bool {
	parts := strings.Split(p, ".")
	for i, part := range parts {
		if part == "" || strings.ContainsAny(part, " \t\r\n") || len(part) > 1 && strings.ContainsAny(part, "*>") ||
			part == ">" && i != len(parts)-1 {
			return false
		}
	}
	return len(p) <= 512
}

// overlap reports whether some subject matches both patterns: the server
// refuses a consumer whose filters do.
func overlap(a, b []string) bool {
	for i := 0; ; i++ {
		switch {
		case i == len(a) || i == len(b):
			return len(a) == len(b)
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != b[i] && a[i] != "*" && b[i] != "*":
			return false
		}
	}
}
