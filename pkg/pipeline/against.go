package pipeline

import (
	"fmt"
	"slices"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
)

// Compared returns the destinations that resources are compared with, by name.
func (f *File) Compared() map[string]Destination {
	compared := map[string]Destination{}
	for _, source := range f.Sources {
		for _, res := range source.Resources {
			if res.Reconcile == nil {
				continue
			}
			for _, name := range res.Reconcile.Destinations() {
				if d, ok := f.Destinations[name]; ok {
					compared[name] = d
				}
			}
		}
	}
	return compared
}

// validateAgainst reports destinations that a resource can't be compared with:
// those that keep no table of records, and those that don't want every record,
// since what they leave out would be found missing for ever.
func (f *File) validateAgainst(c *config.Check) {
	for source, s := range f.Sources {
		for resource, res := range s.Resources {
			if res.Reconcile == nil {
				continue
			}
			at := fmt.Sprintf("sources.%s.resources.%s.reconcile.against", source, resource)
			for _, name := range res.Reconcile.Destinations() {
				d, ok := f.Destinations[name]
				if !ok {
					c.Fault(at, name, "ledger, or destination:NAME of one under destinations")
				} else if problem := d.incomparable(source, resource); problem != "" {
					c.Fault(at, name, problem)
				}
			}
		}
	}
}

// incomparable is what the destination would have to be, or "".
func (d Destination) incomparable(source, resource string) string {
	again := event.Event{Source: source, Account: event.NoAccount, Type: resource + ".reconciled"}.EnrichedSubject()
	switch {
	case d.SQLite == nil && (d.Postgres == nil || d.Postgres.Mode == Insert || d.Postgres.Table != nil):
		return "a destination that keeps a table of records: sqlite, or postgres with mode upsert and without table"
	case !d.When.IsZero():
		return "a destination without when: what it leaves out would be found missing in every run"
	case !slices.ContainsFunc(d.Subjects(), func(p string) bool { return event.Match(p, again) }):
		return fmt.Sprintf("a destination that subscribes to %s.*.%s.reconciled, as which records are sent again", source, resource)
	}
	return ""
}
