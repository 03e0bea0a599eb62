package provider

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// EventsResource is what a source's list of events is called where resources
// have their names: in reports, cursors and commands.
const EventsResource = "events"

// Events says how to list what a source says that it has sent: its events, as
// Stripe's /v1/events does, or the deliveries of a hook, as GitHub does. Each is
// compared by its id with the triggers that are stored. One that is not among
// them was missed, and is sent in again as the trigger that its webhook would
// have been. It is listed as a resource's records are; a record is then a listed
// event. Every run is of the time since the last one, less overlap.
type Events struct {
	Reconcile `yaml:",inline"`
	// ID finds the id of a listed event, which event.id finds in its webhook: an
	// expression such as record.id, or a list of which the first that finds
	// something counts. Required.
	ID ListedExpr `yaml:"id"`
	// Type finds its type, as event.type does in its webhook. Required.
	Type ListedExpr `yaml:"type"`
	// Types are patterns of the types that are wanted: sources list events that
	// no webhook was asked for. Defaults to the triggers of the source's
	// resources, or to all where it has none.
	Types []string `yaml:"types"`
	// Get asks for the rest of a listed event that was missed: a path such as
	// /events/{record.id}, or ./{record.id} for one below list. Defaults to
	// nothing: the list has all that is needed.
	Get ListedPath `yaml:"get"`
	// Body is where in a listed event, or in the answer to Get, that is what its
	// webhook's body would be, as a path such as request.payload. Defaults to
	// all of it.
	Body string `yaml:"body"`
	// Resource is the resource whose record is sent in again in the event's place,
	// for lists without the bodies of webhooks. Needs record_id. Excludes get and
	// body. Defaults to none.
	Resource string `yaml:"resource"`
	// RecordID finds the id of that record in a listed event.
	RecordID RecordExpr `yaml:"record_id"`
	// Redeliver asks the source to send a webhook again, with a POST.
	Redeliver Redeliver `yaml:"redeliver"`
	// Prefer is who sends a missed event again: repair, so that Tercel does from
	// what is listed, or redelivery, so that the source is asked first and only
	// what doesn't come is repaired. Defaults to repair.
	Prefer Prefer `yaml:"prefer"`

	body field.Path
}

// Redeliver says how a source is asked to send a webhook again.
type Redeliver struct {
	// Path is what is posted to, with nothing in it: a path such as
	// /events/{record.id}/resend, or ./{record.id}/attempts for one below list.
	Path ListedPath `yaml:"path"`
	// Wait bounds how long a run waits, in all, for webhooks that it has asked
	// for. Defaults to 30s.
	Wait time.Duration `yaml:"wait"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Redeliver) Forms() []any { return []any{"", Redeliver{}} }

// DecodeNode reads the short form, a path, and the long one.
func (r *Redeliver) DecodeNode(n config.Node) {
	if r.Wait == 0 {
		r.Wait = 30 * time.Second
	}
	if n.Kind() == config.Scalar {
		n.Decode(&r.Path)
		return
	}
	n.Decode(r)
	if r.Path.IsZero() || r.Wait < time.Second || r.Wait > time.Hour {
		n.Fault("a path, or {path: …, wait: 1s to 1h}")
	}
}

// Prefer is who sends a missed event again.
type Prefer string

// The two that can.
const (
	PreferRepair     Prefer = "repair"
	PreferRedelivery Prefer = "redelivery"
)

// Values lists them, for configuration errors.
func (Prefer) Values() []string { return []string{string(PreferRepair), string(PreferRedelivery)} }

// ListedExpr finds one value in a listed event.
type ListedExpr []field.Expr

// Forms lists what DecodeNode takes, for the schema of files.
func (ListedExpr) Forms() []any { return []any{"", []string{}} }

// DecodeNode reads the short and the list form.
func (l *ListedExpr) DecodeNode(n config.Node) {
	var texts []string
	if n.Kind() == config.Scalar {
		texts = []string{n.Text()}
	} else if !n.Decode(&texts) {
		return
	}
	*l = nil
	for _, text := range texts {
		e, err := field.Parse(text, "record")
		if err != nil {
			n.Fault("an expression such as record.id (" + err.Error() + ")")
			return
		}
		*l = append(*l, e)
	}
}

// In returns the first value that a listed event has, or an error that wraps
// [field.ErrMissing].
func (l ListedExpr) In(listed []byte) (string, error) {
	return field.First(l, field.Scope{Docs: map[string][]byte{"record": listed}})
}

// ListedPath is a path below the API's base, or below the list's own path, with
// references in braces to {record.…}, a listed event, and {account}.
type ListedPath struct {
	expr  field.Expr
	below bool // the list
}

// Forms lists what DecodeNode takes, for the schema of files.
func (ListedPath) Forms() []any { return []any{""} }

// DecodeNode reads the template.
func (p *ListedPath) DecodeNode(n config.Node) {
	text, below := strings.CutPrefix(n.Text(), ".")
	e, err := field.ParseTemplate(text, "record", "account")
	if err == nil && !strings.HasPrefix(text, "/") {
		err = errors.New("it must begin with a slash, or with ./ below list")
	}
	if err != nil {
		n.Fault("a path such as /events/{record.id} or ./{record.id} (" + err.Error() + ")")
		return
	}
	*p = ListedPath{e, below}
}

// IsZero reports whether there is no path.
func (p ListedPath) IsZero() bool { return p.expr.IsZero() }

// Fill returns the path with every reference replaced and escaped. List is the
// list's own, filled in.
func (p ListedPath) Fill(list string, s field.Scope) (string, error) {
	path, err := p.expr.Build(s, escape)
	if err != nil || !p.below {
		return path, err
	}
	list, _, _ = strings.Cut(list, "?")
	return strings.TrimSuffix(list, "/") + path, nil
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Events) Forms() []any { return []any{Events{}} }

// DecodeNode sets the defaults, then reads the mapping over them.
func (e *Events) DecodeNode(n config.Node) {
	e.setDefaults()
	if e.Prefer == "" {
		e.Prefer = PreferRepair
	}
	n.Decode(e)
}

// Validate reports what is wrong with the events alone; see also
// [Source.Validate].
func (e *Events) Validate(c *config.Check) {
	if len(e.ID) == 0 {
		c.Missing("id", "where a listed event has its id, such as record.id")
	}
	if len(e.Type) == 0 {
		c.Missing("type", "where a listed event has its type, such as record.type")
	}
	if e.Time.IsZero() {
		c.Missing("time", "when a listed event happened, such as record.created: what is younger than settle may be on its way")
	}
	var err error
	if e.body, err = field.ParsePath(e.Body); err != nil || e.body.Many() {
		c.Fault("body", "", "a path such as request.payload")
	}
	if (e.Resource == "") != e.RecordID.IsZero() {
		c.Fault("resource", "", "resource, whose record is got, and record_id, where a listed event has its id, together")
	}
	if e.Resource != "" && (!e.Get.IsZero() || e.Body != "") {
		c.Fault("resource", "", "nothing here beside get and body, which say what the webhook's body would be")
	}
	if e.Prefer == PreferRedelivery && e.Redeliver.Path.IsZero() {
		c.Missing("redeliver", "the path that asks for a webhook again, such as ./{record.id}/attempts")
	}
	if e.Deletes != nil {
		c.Fault("deletes", "", "nothing here: an event that happened is not deleted")
	}
	if len(e.Destinations()) > 0 {
		c.Fault("against", "", "nothing here: events are compared with the triggers that are stored")
	}
}

// validateEvents reports what the list of events and the rest of the source
// contradict each other in.
func (s *Source) validateEvents(c *config.Check) {
	e := s.Events
	if e == nil {
		return
	}
	if e.List.IsZero() {
		c.Missing("events.list", "the path that lists events, such as /events")
	}
	if len(s.Event.ID) == 0 {
		c.Fault("events", "", "event.id beside it: without the ids of webhooks there is nothing to compare with")
	}
	if s.API.Base == "" {
		c.Missing("api.base", "the URL of the API that lists events")
	}
	if _, taken := s.Resources[EventsResource]; taken {
		c.Fault("resources."+EventsResource, "", "another name: this one is that of the list of events")
	}
	if e.Resource == "" {
		return
	}
	r, ok := s.Resources[e.Resource]
	if !ok {
		c.OneOf("events.resource", e.Resource, slices.Sorted(maps.Keys(s.Resources)))
	} else if r.Get.uses("body") || !r.Version.ofRecord() {
		c.Fault("events.resource", fmt.Sprintf("%q", e.Resource), "a resource that is got by its id alone and has its version in the record")
	}
}

// Wants reports whether a listed event of that type is wanted.
func (s *Source) Wants(typ string) bool {
	if s.Events != nil && len(s.Events.Types) > 0 {
		return slices.ContainsFunc(s.Events.Types, func(pattern string) bool { return event.Match(pattern, typ) })
	}
	_, _, ok := s.ResourceFor(typ)
	return ok || len(s.Resources) == 0
}

// BodyIn returns what a listed event's webhook would have for a body: a part of
// the listed event, or of the answer to Get where there is that. The error wraps
// [field.ErrMissing] where it is not there.
func (e *Events) BodyIn(listed []byte) ([]byte, error) { return e.body.One(listed) }
