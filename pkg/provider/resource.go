package provider

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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
	// Get asks for one record: a path such as /orders/{id}, or {graphql: …}.
	// Required.
	Get Get `yaml:"get"`
	// Record is where the record is in the answer to Get, as a path such as
	// data. Defaults to the whole answer. Where GraphQL has null there, the record
	// is gone.
	Record string `yaml:"record"`
	// Gone tells records that the source shows although they are gone, such as
	// {record.deleted: "true"}: each of the expressions has that text. They become
	// tombstones, as records do that are answered with 404 or 410. Defaults to
	// none.
	Gone map[string]string `yaml:"gone"`
	// RecordID finds the id in a record. Defaults to record.id.
	RecordID RecordExpr `yaml:"record_id"`
	// Related are further records that complete this one, by name.
	Related map[string]Related `yaml:"related"`
	// Select are the parts of a record that events have, such as [id,
	// customer.email, "lines[].sku"]. Everything else, such as ID, Version and
	// paths, looks into the whole record. Defaults to all of it.
	Select Selection `yaml:"select"`
	// Version says what orders a record's versions, such as record.updated_at.
	// Required.
	Version Version `yaml:"version"`
	// Expect finds the version that the trigger says there is, such as
	// body.order.updated_at. A record that is older is asked for again after a
	// while; one that stays older is passed on marked as stale. Numbers are
	// compared with times as Unix seconds or milliseconds. Defaults to taking what
	// is shown.
	Expect TriggerExpr `yaml:"expect"`
	// Coalesce delays each request for a record by so long, that further triggers
	// of the same record come together in it: for systems that send several
	// within a moment. Each trigger waits in one of the enricher's workers
	// meanwhile. Defaults to 0s.
	Coalesce time.Duration `yaml:"coalesce"`
	// Reconcile says how to list records. Without it nothing is reconciled.
	Reconcile *Reconcile `yaml:"reconcile"`

	unknown bool // named in a list, but the preset has no such resource
	record  field.Path
	gone    []sign
	// needs are the related records that another one's request refers to.
	needs map[string][]string
}

// sign is one entry of [Resource].Gone.
type sign struct {
	expr field.Expr
	want string
}

// Validate reports every fault of the resource.
func (r *Resource) Validate(c *config.Check) {
	if len(r.Triggers) == 0 {
		c.Missing("triggers", "the event types that speak of this resource, such as [order.*]")
	}
	if len(r.ID) == 0 {
		c.Missing("id", "where the record's id is in a trigger, such as body.order.id")
	}
	r.validateTrigger(c, "id", r.ID)
	r.validateTrigger(c, "expect", r.Expect)
	if r.Get.IsZero() {
		c.Missing("get", "the path of one record, such as /orders/{id}")
	}
	if r.Get.uses("record") || r.Get.uses("related") {
		c.Fault("get", "", "references to id, account and body: the record is not there yet")
	}
	if r.Reconcile != nil && r.Reconcile.List.IsZero() {
		c.Missing("reconcile.list", "the path that lists records, such as /orders")
	}
	r.validateVersion(c)
	if r.Reconcile != nil && r.Reconcile.Deletes != nil {
		if err := r.Scannable(*r.Reconcile.Deletes); err != nil {
			c.Fault("reconcile.deletes", "", "nothing: "+err.Error())
		}
	}
	if r.RecordID.IsZero() {
		r.RecordID = defaultRecordID()
	}
	var err error
	if r.record, err = field.ParsePath(r.Record); err != nil {
		c.Fault("record", "", "a path such as data")
	}
	if r.Coalesce < 0 || r.Coalesce > 10*time.Second {
		c.Fault("coalesce", "", "0s to 10s")
	}
	r.gone = nil
	for _, key := range slices.Sorted(maps.Keys(r.Gone)) {
		e, err := field.Parse(key, "record")
		if err != nil {
			c.Fault("gone."+key, "", "an expression such as record.deleted, and the text that it has")
		}
		r.gone = append(r.gone, sign{e, r.Gone[key]})
	}
	r.validateRelated(c)
}

// validateTrigger looks at an expression over a stored trigger.
func (r *Resource) validateTrigger(c *config.Check, key string, e TriggerExpr) {
	if e.Uses("header") || e.Uses("form") {
		c.Fault(key, "", "an expression over body: a request's headers and form are not kept with its trigger")
	}
	if e.Uses("item") {
		c.Fault(key, "", "an expression over body, which is one event where requests are split")
	}
}

func (r *Resource) validateVersion(c *config.Check) {
	switch {
	case r.Version.IsZero():
		c.Missing("version", "what orders a record's versions, such as record.updated_at")
	case r.Reconcile != nil && !r.Version.ofRecord():
		c.Fault("version", "", "an expression over the record, or hash: lists, which reconcile compares, have nothing else")
	case len(r.Expect) > 0 && !r.Version.ordered():
		c.Fault("expect", "", "nothing here beside version: "+r.Version.text+", which doesn't tell what is older")
	}
}

// defaultRecordID is no variable: presets are read while those are set.
func defaultRecordID() RecordExpr { return RecordExpr{mustParse("record.id", "record")} }

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
// [field.ErrMissing]. It returns nil for one that the answer says is gone.
func (r Resource) Extract(answer []byte) ([]byte, error) {
	record, err := r.record.One(answer)
	if err != nil || r.Get.GraphQL != nil && record.Kind() == 'n' || r.IsGone(record) {
		return nil, err
	}
	return record, nil
}

// Find returns the record with that id in an answer to Get, or nil if the answer
// says that it is gone. An answer about another record, or without one, is a
// cache's or a proxy's mistake: it may pass.
func (r Resource) Find(id string, answer []byte) ([]byte, error) {
	record, err := r.Extract(answer)
	if err != nil {
		return nil, fmt.Errorf("record in the answer: %w", err)
	}
	if record == nil {
		return nil, nil
	}
	own, err := r.RecordID.In(record)
	if err != nil {
		return nil, fmt.Errorf("id in the answer: %w", err)
	}
	if own != id {
		return nil, errors.New("answer is about another record")
	}
	return record, nil
}

// IsGone reports whether a record has all signs of one that is gone, see
// [Resource].Gone.
func (r Resource) IsGone(record []byte) bool {
	scope := field.Scope{Docs: map[string][]byte{"record": record}}
	for _, s := range r.gone {
		if text, err := s.expr.Eval(scope); err != nil || text != s.want {
			return false
		}
	}
	return len(r.gone) > 0
}
