package reconciler

import (
	"time"

	"github.com/tercelhq/tercel/services/reconciler/internal/census"
)

// censusEvery is the time between two looks at streams and consumers: about as
// often as metrics are asked for.
const censusEvery = 10 * time.Second

// addCensus has one replica tell what streams and consumers hold.
func (s *Service) addCensus() (err error) {
	s.census, err = census.New(census.Config{Every: censusEvery, LeaseTTL: s.cfg.LeaseTTL, Streams: s.cfg.Streams},
		census.Deps{JetStream: s.js, Log: s.deps.Log})
	return err
}
