package ledger

// Len is the number of records that the ledger knows of.
func (l *Ledger) Len() int { return l.index.len() }
