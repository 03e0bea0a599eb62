package reconciler

import (
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/services/reconciler/internal/alarm"
)

// alarmEvery is the time between two looks at how sources send: as often as the
// ingress notes it.
var alarmEvery = intake.Every

// addAlarms looks after all sources. Those that list something are asked when
// they fall silent.
func (s *Service) addAlarms() error {
	sources := map[string]bool{}
	for name := range s.cfg.Sources {
		sources[name] = false
	}
	for _, p := range s.plans {
		sources[p.source] = true
	}
	var err error
	s.alarms, err = alarm.New(alarm.Config{
		Sources: sources, Every: alarmEvery, LeaseTTL: s.cfg.LeaseTTL, Silence: s.cfg.Silence, Refused: s.cfg.Refused,
	}, alarm.Deps{JetStream: s.js, Log: s.deps.Log, Now: s.deps.Now, Probe: s.probe})
	return err
}

// probe has a source's resources reconciled now, unless they are paused.
func (s *Service) probe(source string) {
	for _, p := range s.plans {
		if p.source == source {
			p.probe()
		}
	}
}
