package event

// Answers reports whether e is the event that t, a trigger, leads to, or one of
// those that it leads to if it names several records. A sequence of TERCEL_RAW alone
// doesn't tell: a stream that was made anew gives it to another trigger.
func (e Event) Answers(t Event) bool {
	return e.Source == t.Source && e.Account == t.Account && (e.ID == t.ID || e.RecordID != "" && e.ID == t.ID+"#"+e.RecordID)
}
