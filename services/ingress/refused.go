package ingress

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// linesAMinute is how many refusals of one class have a line each in a minute;
// one more line says how many there were beside them. A flood must neither fill
// the disk nor hide what else is refused.
const linesAMinute = 10

// class is what refusals of a source are bounded by in the log: a closed set.
type class struct {
	outcome     outcome
	check, step string
}

// refused counts a source's refusals for the log.
type refused struct {
	mu      sync.Mutex // guards the map and what is in it
	classes map[class]*minute
}

// minute is how many refusals of a class there were from then on.
type minute struct {
	from         time.Time
	told, untold int
}

// worth reports whether another refusal is worth a line, and how many of the
// minute before had none.
func (r *refused) worth(c class, now time.Time) (line bool, untold int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.classes[c]
	if m == nil {
		if r.classes == nil {
			r.classes = map[class]*minute{}
		}
		m = &minute{from: now}
		r.classes[c] = m
	}
	if m.ended(now) {
		untold = m.untold
		*m = minute{from: now}
	}
	if m.told == linesAMinute {
		m.untold++
		return false, untold
	}
	m.told++
	return true, untold
}

// ended tells whether the minute is over. A clock that was set back ends it too.
func (m *minute) ended(now time.Time) bool {
	return now.Before(m.from) || now.Sub(m.from) >= time.Minute
}

// over takes how many refusals had no line, of minutes that are over or of all.
func (r *refused) over(now time.Time, all bool) map[class]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	untold := map[class]int{}
	for c, m := range r.classes {
		if all || m.ended(now) {
			if m.untold > 0 {
				untold[c] = m.untold
			}
			delete(r.classes, c)
		}
	}
	return untold
}

// logRefusal tells operators of a refusal that has a reason for them.
func (s *Service) logRefusal(ctx context.Context, in *inspection, no *refusal, requestID string) {
	if no.reason == "" {
		return
	}
	c := class{no.outcome, no.check, no.step}
	line, untold := in.route.refused.worth(c, in.now)
	s.logUntold(ctx, in.route, c, untold)
	if !line {
		return
	}
	s.keepRefusal(in, no, requestID)
	attrs := append(c.attrs(in.route), slog.String("account", in.account), slog.String("reason", no.reason), slog.String("request_id", requestID))
	if len(in.items) == 1 && in.items[0].event.ID != "" {
		attrs = append(attrs, slog.String("event_id", in.items[0].event.ID))
	}
	s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "webhook not taken", attrs...)
}

func (s *Service) logUntold(ctx context.Context, r *route, c class, n int) {
	if n > 0 {
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "more webhooks not taken", append(c.attrs(r), slog.Int("requests", n))...)
	}
}

// logRefusals tells of what had no line in minutes that are over, or in all.
func (s *Service) logRefusals(ctx context.Context, all bool) {
	for _, r := range s.routes {
		for c, n := range r.refused.over(s.deps.Now(), all) {
			s.logUntold(ctx, r, c, n)
		}
	}
}

func (c class) attrs(r *route) []slog.Attr {
	attrs := []slog.Attr{slog.String("source", r.name), slog.String("outcome", string(c.outcome)), slog.String("check", c.check)}
	if c.step != "" {
		attrs = append(attrs, slog.String("step", c.step))
	}
	return attrs
}
