package run

// SetWaiting bounds the gaps that wait for their causes to be looked for, if it
// isn't 0.
func (r *Run) SetWaiting(gaps int) { r.mostWaiting = gaps }

// SetStored bounds the triggers that are kept in memory.
func (r *Run) SetStored(triggers int) { r.mostStored = triggers }

// Drop gives the lease back without doing anything, as when the runner dies; the window
// stays.
func (r *Run) Drop() { r.lease.Release() }
