package outcome

// Left is how many tries were left out since the last one that was stored.
func (l *Log) Left() int64 { return l.left.Load() }
