package webhook

import "time"

// Remembered is how many events are remembered that are to come again.
func (r *Receiver) Remembered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.done)
	for _, l := range r.waiting {
		n += len(l)
	}
	return n
}

// Age lets time pass for what is remembered.
func (r *Receiver) Age(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swept = r.swept.Add(-d)
	for p, at := range r.done {
		r.done[p] = at.Add(-d)
	}
	for _, l := range r.waiting {
		for sequence, due := range l {
			l[sequence] = due.Add(-d)
		}
	}
}
