package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
)

// owner is whose ids are its own: what two of them call alike isn't one thing.
type owner struct{ source, account, resource string }

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
		if one, other, both := f.sharing(d, filled); both {
			c.Fault("destinations."+name+".postgres.table.key", "", "a column for "+one.differs(other))
		}
	}
}

// sharing finds two owners whose rows a key with these attributes would take for each
// other's.
func (f *File) sharing(d Destination, filled map[string]bool) (one, other owner, found bool) {
	rows := map[owner]owner{} // by what the key has of them
	for _, o := range f.owners(d) {
		key := o
		if !filled["source"] {
			key.source = ""
		}
		if !filled["account"] {
			key.account = ""
		}
		if !filled["resource"] {
			key.resource = ""
		}
		if first, there := rows[key]; there && first != o {
			return first, o, true
		}
		rows[key] = o
	}
	return owner{}, owner{}, false
}

// differs is the first attribute that tells the owners apart, and why it is needed.
func (o owner) differs(other owner) string {
	for _, by := range []struct{ name, one, other string }{
		{"source", o.source, other.source}, {"account", o.account, other.account}, {"resource", o.resource, other.resource},
	} {
		if by.one != by.other {
			return fmt.Sprintf("%s among them, since rows of %[1]s %s and of %s would be taken for each other's", by.name, by.one, by.other)
		}
	}
	return ""
}

// owners are those of what may come to a destination, as far as the file tells: in
// mode insert all that have events, else those of records.
func (f *File) owners(d Destination) (all []owner) {
	for _, source := range slices.Sorted(maps.Keys(f.Sources)) {
		s := f.Sources[source]
		for _, account := range d.accounts(source, s) {
			if d.Postgres.Mode == Insert {
				all = append(all, owner{source, account, ""})
				continue
			}
			for _, resource := range d.resources(source, account, s) {
				all = append(all, owner{source, account, resource})
			}
		}
	}
	return all
}

// anyAccount stands for accounts that nobody has named: no account has such a name, so
// that only a wildcard takes it.
const anyAccount = "*any*"

// accounts are the accounts of a source that the destination takes events of.
func (d Destination) accounts(source string, s provider.Source) []string {
	names := []string{event.NoAccount}
	switch {
	case s.Accounts.Live() && d.takes(source, anyAccount, ">"):
		return []string{"any", "another"}
	case s.Accounts.Live():
		names = nil
		for _, p := range d.Subscribe {
			if parts := strings.Split(p, "."); len(parts) > 1 {
				names = append(names, parts[1])
			}
		}
	case !s.Accounts.IsZero():
		names = s.Accounts.Names
	}
	return slices.DeleteFunc(slices.Clone(names), func(account string) bool { return !d.takes(source, account, ">") })
}

// resources are those of a source that an event may be of which the destination takes.
// A type that several resources speak of is the first one's.
func (d Destination) resources(source, account string, s provider.Source) (names []string) {
	var before []string
	for _, name := range slices.Sorted(maps.Keys(s.Resources)) {
		for _, types := range append(slices.Clone(s.Resources[name].Triggers), name+".reconciled") {
			another := slices.ContainsFunc(before, func(p string) bool { return event.Match(p, types) })
			if !another && d.takes(source, account, types) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		before = append(before, s.Resources[name].Triggers...)
	}
	return names
}

// takes reports whether the destination takes some event of a source, an account and a
// pattern of types.
func (d Destination) takes(source, account, types string) bool {
	want := strings.Split(event.PrefixEnriched+"."+source+"."+account+"."+types, ".")
	return slices.ContainsFunc(d.Subjects(), func(p string) bool { return overlap(strings.Split(p, "."), want) })
}
