package provider

import (
	"errors"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// Deletes says how a resource's orphans are looked for: records that are held,
// and that the source no longer has though nothing told so. Now and then its
// whole list is read, beside the other runs. What is held and was not listed is
// asked for, one by one; only what the source then says is gone is an orphan.
type Deletes struct {
	// Every is the time between two scans, or {cron: EXPRESSION, zone: ZONE}.
	// Defaults to 168h.
	Every Schedule `yaml:"every"`
	// Tombstone has orphans deleted at the destinations. Defaults to false: they
	// are reported.
	Tombstone bool `yaml:"tombstone"`
	// MaxShare bounds the share of the records held, from 0 to 1, that one scan
	// may find unlisted. With more, which rather speaks of a list that isn't whole
	// or of a credential that sees less, it asks for none, sends no tombstone and
	// says so as an error in the log, and in tercel.deletions.stopped. Defaults to 0.05.
	MaxShare float64 `yaml:"max_share"`
	// Allow is how many records may be unlisted whatever their share, but never
	// more than half of those held, so that small sets work. Defaults to 10.
	Allow int `yaml:"allow"`
	// Since is the day, such as 2019-05-01, on which the oldest record was last
	// changed, for lists in slices of time: these can't begin at the beginning.
	// Required with slice.
	Since Day `yaml:"since"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Deletes) Forms() []any { return []any{Deletes{}} }

// DecodeNode sets the defaults, then reads the mapping over them.
func (d *Deletes) DecodeNode(n config.Node) {
	*d = DefaultDeletes()
	n.Decode(d)
}

// DefaultDeletes is how orphans are looked for where the file says nothing.
func DefaultDeletes() Deletes {
	return Deletes{Every: Schedule{Interval: 7 * 24 * time.Hour}, MaxShare: 0.05, Allow: 10}
}

// Validate reports every fault of the scans.
func (d *Deletes) Validate(c *config.Check) {
	if d.MaxShare < 0 || d.MaxShare > 1 {
		c.Fault("max_share", "", "0 to 1")
	}
	if d.Allow < 0 {
		c.Fault("allow", "", "0 or more")
	}
}

// Limit is how many of the records held may be unlisted.
func (d Deletes) Limit(held int) int {
	return max(int(d.MaxShare*float64(held)), min(d.Allow, held/2))
}

// Day is a day in UTC.
type Day struct{ time.Time }

// Forms lists what DecodeNode takes, for the schema of files.
func (Day) Forms() []any { return []any{""} }

// DecodeNode reads 2006-01-02.
func (d *Day) DecodeNode(n config.Node) {
	t, err := time.Parse(time.DateOnly, n.Text())
	if err != nil {
		n.Fault("a day such as 2019-05-01")
		return
	}
	d.Time = t
}

// Scannable returns why the resource's orphans can't be looked for as d says, or
// nil.
func (r Resource) Scannable(d Deletes) error {
	switch {
	case r.Reconcile == nil:
		return errors.New("the resource says nothing of listing")
	case r.Get.uses("body"):
		return errors.New("get looks into the trigger's body, and a record that is missing in a list has no trigger")
	case r.Reconcile.Slice.Every > 0 && d.Since.IsZero():
		return errors.New("deletes.since is missing: lists in slices of time can't begin at the beginning")
	case r.Reconcile.Slice.Every == 0 && !d.Since.IsZero():
		return errors.New("deletes.since is only for lists in slices of time")
	}
	return nil
}
