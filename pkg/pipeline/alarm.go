package pipeline

import (
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// Silence is when a source counts as silent. What is usual of each is learned from
// what the ingress notes of every minute, and one of which too little is known is
// never silent: it takes 50 minutes with events within three days.
type Silence struct {
	// Off leaves sources alone that fall silent. Defaults to false.
	Off bool `yaml:"off"`
	// Learn is the time from which it is learned what is usual. What the ingress
	// noted is kept as long as streams.reports. Defaults to 28d.
	Learn time.Duration `yaml:"learn"`
	// Patience is how many times longer a silence must be than those that a source
	// makes once a week, counted in the events that are usual at that hour of the
	// week. Defaults to 1.5.
	Patience float64 `yaml:"patience"`
	// ProbeEvery is the time between two reconciliations of a source's resources
	// while it is silent, the first of which comes at once. Defaults to 1h.
	ProbeEvery time.Duration `yaml:"probe_every"`
}

// Refused is when refused requests of a source are an alarm.
type Refused struct {
	// Off makes no alarm of them. Defaults to false.
	Off bool `yaml:"off"`
	// Share is the share of all requests of a source that must be exceeded, 0 to 1.
	// Defaults to 0.2.
	Share float64 `yaml:"share"`
	// Window is the time that is looked at. Defaults to 15m.
	Window time.Duration `yaml:"window"`
	// Least is how many must have been refused in it for an alarm to begin.
	// Defaults to 20.
	Least int `yaml:"least"`
}

func defaultSilence() Silence {
	return Silence{Learn: 28 * 24 * time.Hour, Patience: 1.5, ProbeEvery: time.Hour}
}

func defaultRefused() Refused { return Refused{Share: 0.2, Window: 15 * time.Minute, Least: 20} }

// Validate reports every fault of the settings.
func (s *Silence) Validate(c *config.Check) {
	if s.Learn < 3*24*time.Hour || s.Learn > 365*24*time.Hour {
		c.Fault("learn", "", "3d to 365d")
	}
	if s.Patience < 1 {
		c.Fault("patience", "", "at least 1")
	}
	if s.ProbeEvery < time.Minute {
		c.Fault("probe_every", "", "at least 1m")
	}
}

// Validate reports every fault of the settings.
func (r *Refused) Validate(c *config.Check) {
	if r.Share < 0 || r.Share > 1 {
		c.Fault("share", "", "0 to 1")
	}
	if r.Window < 2*time.Minute || r.Window > 24*time.Hour {
		c.Fault("window", "", "2m to 24h: the ingress notes once a minute")
	}
	if r.Least < 1 {
		c.Fault("least", "", "at least 1")
	}
}
