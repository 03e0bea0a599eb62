package provider

import (
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
