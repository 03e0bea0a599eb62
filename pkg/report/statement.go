package report

import (
	"fmt"
	"time"
)

// Statement says in one sentence how complete the pipeline's records are, and
// what that rests on.
func (r Report) Statement() string {
	window := "from the beginning"
	if !r.From.IsZero() {
		window = "from " + utc(r.From)
	}
	if r.Deletes != nil {
		return r.orphans()
	}
	what := fmt.Sprintf("%s of %s, account %s, %s to %s", r.Resource, r.Source, r.Account, window, utc(r.To))
	switch {
	case !r.Complete && r.Error != "":
		return what + ": not complete, the run failed"
	case !r.Complete:
		return what + ": not complete, some records were not compared"
	}
	return what + ": " + r.sides()
}

// orphans says what a scan for them found, and what was done about it.
func (r Report) orphans() string {
	d := r.Deletes
	what := fmt.Sprintf("%s of %s, account %s, the whole list up to %s", r.Resource, r.Source, r.Account, utc(r.To))
	switch {
	case r.Error != "":
		return what + ": not looked through, the run failed"
	case d.Stopped != "":
		return what + ": no record was asked for nor deleted, since " + d.Stopped
	case d.Unlisted == 0:
		return fmt.Sprintf("%s: all of the %d records held were listed", what, d.Held)
	}
	what = fmt.Sprintf("%s: of the %d records held, %d were not listed: %d are gone at the source, %d are there all the same",
		what, d.Held, d.Unlisted, r.Orphaned, d.Present)
	if d.Unchecked > 0 {
		what += fmt.Sprintf(", %d could not be asked for", d.Unchecked)
	}
	switch {
	case d.Tombstones > 0:
		what += fmt.Sprintf("; %d tombstones were sent", d.Tombstones)
	case r.Orphaned > 0:
		what += "; no tombstones were sent, since nobody asked for them"
	}
	return what
}

// sides says how the two sides of a window that was compared differ.
func (r Report) sides() string {
	gaps := r.Missed + r.Stale
	for _, d := range r.Destinations {
		gaps += d.Missed + d.Stale
	}
	switch {
	case gaps > 0 && r.DryRun:
		return fmt.Sprintf("not complete, %d of %d listed records were missed or stale and left so by a dry run", gaps, r.Sets.Listed.Records)
	case gaps > 0:
		return fmt.Sprintf("complete up to %s once the %d records that were sent again are delivered, of %d listed (digest %s)",
			utc(r.To), r.Repaired+r.Redelivered, r.Sets.Listed.Records, r.Sets.Listed.Digest)
	case r.Sets.Listed == r.Sets.Held && r.sameAtDestinations():
		return fmt.Sprintf("complete up to %s, both sides have the same %d records (digest %s)", utc(r.To), r.Sets.Listed.Records, r.Sets.Listed.Digest)
	default:
		return fmt.Sprintf("complete up to %s, the source listed %d records (digest %s), of which some are held in newer versions (digest %s)",
			utc(r.To), r.Sets.Listed.Records, r.Sets.Listed.Digest, r.Sets.Held.Digest)
	}
}

func (r Report) sameAtDestinations() bool {
	for _, d := range r.Destinations {
		if d.Held != r.Sets.Listed {
			return false
		}
	}
	return true
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
