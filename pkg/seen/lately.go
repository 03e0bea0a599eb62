package seen

import (
	"sync"
	"time"
)

// lately is what this process has stored itself in the last moments, by its
// place in the stream. A repeat that comes at once, as most do, isn't looked up:
// reading a message makes the server load a block of megabytes.
type lately struct {
	mu   sync.Mutex // guards those below
	ring [latelySize]own
}

// latelySize bounds it to a megabyte or so.
const latelySize = 2048

// own is one of the index's own messages.
type own struct {
	msgID string
	Found
}

func (l *lately) add(msgID string, first Found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring[first.Sequence%latelySize] = own{msgID, first}
}

// at returns the message at a sequence if it was stored after a time.
func (l *lately) at(sequence uint64, after time.Time) (own, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.ring[sequence%latelySize]
	return o, o.Sequence == sequence && o.StoredAt.After(after)
}
