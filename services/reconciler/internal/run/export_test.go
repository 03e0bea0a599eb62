package run

// SetWaiting bounds the gaps that wait for their causes to be looked for, if it
// isn't 0.
func (r *Run) SetWaiting(gaps int) { r.few = gaps }

// SetStored bounds the triggers that are kept in memory.
func (r *Run) SetStored(triggers int) { r.fewStored = triggers }
