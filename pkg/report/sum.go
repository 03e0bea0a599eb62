package report

// Plus adds the numbers of records of another part of the same window.
func (c Counts) Plus(o Counts) Counts {
	c.Listed += o.Listed
	c.Matched += o.Matched
	c.Missed += o.Missed
	c.Stale += o.Stale
	c.Ahead += o.Ahead
	c.Duplicates += o.Duplicates
	c.Dropped += o.Dropped
	c.Orphaned += o.Orphaned
	c.Repaired += o.Repaired
	c.Redelivered += o.Redelivered
	c.SkippedYoung += o.SkippedYoung
	c.Unreadable += o.Unreadable
	return c
}

// Plus adds what was found at the same destination in another part of the
// window.
func (d Destination) Plus(o Destination) Destination {
	d.Matched += o.Matched
	d.Ahead += o.Ahead
	d.Missed += o.Missed
	d.Stale += o.Stale
	d.Orphaned += o.Orphaned
	d.Repaired += o.Repaired
	d.Held.Join(o.Held)
	d.Behind = d.Behind || o.Behind
	return d
}
