package backfill

import "time"

// WatchFor sets how long one watch lasts.
func (s *Service) WatchFor(d time.Duration) { s.watchFor = d }
