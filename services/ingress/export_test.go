package ingress

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/provider"
)

// AccountLimits are the limits of a source's accounts.
type AccountLimits struct{ of *limits }

// NewAccountLimits returns those that a source with that rate has.
func NewAccountLimits(r provider.Rate) AccountLimits { return AccountLimits{newLimits(r)} }

// Take reports whether an account may send at that time.
func (l AccountLimits) Take(now time.Time, name string) bool { return l.of.take(now, name) == nil }

// Rate is how often a source may send.
type Rate struct{ of *route }

// NewRate returns the rate of a source that may send so often.
func NewRate(l *rate.Limiter) Rate { return Rate{&route{limiter: l}} }

// Take reports whether the source may send at that time.
func (r Rate) Take(now time.Time) bool { return takeFrom(r.of.limiter, now) == nil }

// Known is how many accounts have a limiter.
func (l AccountLimits) Known() int {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	return len(l.of.each) + len(l.of.older)
}

// SeenMarks is how many marks of stored events the service has.
func (s *Service) SeenMarks() int { return s.seen.Len() }
