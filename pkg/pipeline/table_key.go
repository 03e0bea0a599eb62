package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
)

// validateTables reports tables of the user's own whose key doesn't tell apart what
// comes to them: ids are their source's and account's own, and those of records also
// their resource's, so that others would write over a row. What a when leaves out
// can't be seen here, so that a destination with one is not judged.
func (f *File) validateTables(c *config.Check) {
	for name, d := range f.Destinations {
		if d.Postgres == nil || d.Postgres.Table == nil || len(d.Postgres.Table.Key) == 0 || !d.When.IsZero() {
			continue
		}
		filled := map[string]bool{}
		for _, column := range d.Postgres.Table.Key {
			filled[d.Postgres.Table.Columns[column].text] = true
		}
		for attribute, among := range f.among(d) {
			if len(among) > 1 && !filled[attribute] {
				shown := slices.Sorted(maps.Keys(among))
				c.Fault("destinations."+name+".postgres.table.key", "", fmt.Sprintf(
					"a column for %s among them, since rows of %s would be taken for each other's", attribute, strings.Join(shown[:2], " and ")))
			}
		}
	}
}

// among are the sources, accounts and, in mode upsert, resources that the events of a
// destination may be of, as far as the file tells.
func (f *File) among(d Destination) map[string]map[string]bool {
	sources, accounts, resources := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for name, s := range f.Sources {
		if !d.takes(name, "*", ">") {
			continue
		}
		sources["source "+name] = true
		switch {
		case s.Accounts.Live() && d.takes(name, "\x00", ">"): // no account has that name: only a wildcard takes it
			accounts["one account"], accounts["another"] = true, true
		default:
			for _, account := range s.Accounts.Names {
				if d.takes(name, account, ">") {
					accounts["account "+account] = true
				}
			}
		}
		for resource, r := range s.Resources {
			for _, types := range append(slices.Clone(r.Triggers), resource+".reconciled") {
				if d.Postgres.Mode != Insert && d.takes(name, "*", types) {
					resources["resource "+resource] = true
				}
			}
		}
	}
	return map[string]map[string]bool{"source": sources, "account": accounts, "resource": resources}
}

// takes reports whether the destination takes some event of a source, an account and a
// pattern of types.
func (d Destination) takes(source, account, types string) bool {
	want := strings.Split(event.PrefixEnriched+"."+source+"."+account+"."+types, ".")
	return slices.ContainsFunc(d.Subjects(), func(p string) bool { return overlap(strings.Split(p, "."), want) })
}
