package sourceapi

import (
	"net/http"
	"sync"
	"time"
)

// skew is how far the source's clock is ahead of this process's, as far as answers
// tell it: each has a Date in whole seconds, so that some time between the request's
// beginning and the answer's arrival the source's clock showed that second. It is kept
// for as long as answers agree with it: what one process sees within a second has an
// order of its own, which a time that is cut to each answer's second has not.
type skew struct {
	mu sync.Mutex // guards by
	by time.Duration
}

// observed is when the request of ans began by the clock that wrote date into it.
func (s *skew) observed(ans Answer, date string) time.Time {
	shown, err := http.ParseTime(date)
	if err != nil {
		return ans.RequestedAt
	}
	least, most := shown.Sub(ans.ReceivedAt), shown.Add(time.Second).Sub(ans.RequestedAt)
	s.mu.Lock()
	defer s.mu.Unlock()
	if least <= 0 && most >= 0 {
		s.by = 0 // both may be right
	} else {
		s.by = min(max(s.by, least), most)
	}
	return ans.RequestedAt.Add(s.by)
}
