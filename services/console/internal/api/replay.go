package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Bounds of replays, of events and of dead letters alike.
const (
	maxPlanned         = 100_000
	defaultRate        = 100
	maxRate            = 10_000
	defaultMaxFailures = 10
	maxToldFailures    = 20
	// tellEvery is the time between two messages of progress.
	tellEvery = time.Second
	// sendTimeout bounds sending one message.
	sendTimeout = 10 * time.Second
)

// errGone says that a message has left its stream.
var errGone = errors.New("no longer stored")

// pace is how fast a replay is, and when it ends before its time.
type pace struct{ rate, maxFailures int }

func newPace(perSecond, maxFailures uint32) (pace, error) {
	p := pace{int(perSecond), int(maxFailures)}
	if p.rate > maxRate {
		return p, invalid("rate", "1 to 10,000 messages a second")
	}
	if p.rate == 0 {
		p.rate = defaultRate
	}
	if p.maxFailures == 0 {
		p.maxFailures = defaultMaxFailures
	}
	return p, nil
}

// planner adds up what a replay would do.
type planner struct {
	destinations map[string]pipeline.Destination
	out          *adminv1.ReplayPlan
	count        uint64
	counts       map[string]uint64
}

func (a *API) newPlanner() *planner {
	return &planner{destinations: a.cfg.Destinations, out: &adminv1.ReplayPlan{}, counts: map[string]uint64{}}
}

// add counts a message and reports whether the plan takes more.
func (p *planner) add(at time.Time, e event.Event, replayed bool) bool {
	if p.count++; p.count > maxPlanned {
		p.out.Truncated = true
		return false
	}
	if replayed {
		p.out.ReplayedBefore++
	}
	if p.out.Oldest == nil || at.Before(p.out.GetOldest().AsTime()) {
		p.out.Oldest = stamp(at)
	}
	if p.out.Newest == nil || at.After(p.out.GetNewest().AsTime()) {
		p.out.Newest = stamp(at)
	}
	subject := e.EnrichedSubject()
	for name, d := range p.destinations {
		for _, pattern := range d.Subjects() {
			if event.Match(pattern, subject) {
				p.counts[name]++
				break
			}
		}
	}
	return true
}

func (p *planner) plan(token string) *adminv1.ReplayPlan {
	p.out.Count, p.out.PlanToken = min(p.count, maxPlanned), token
	for _, name := range slices.Sorted(maps.Keys(p.counts)) {
		p.out.Destinations = append(p.out.Destinations, &adminv1.DestinationCount{
			Destination: name, Count: p.counts[name], Versioned: versioned(p.destinations[name]),
		})
	}
	return p.out
}

// versioned reports whether a destination keeps the newest version of each
// record, so that an event that comes again has no effect (promise 7).
func versioned(d pipeline.Destination) bool {
	return d.SQLite != nil || d.Postgres != nil && d.Postgres.Mode == pipeline.Upsert
}

// job is one message to send.
type job struct {
	position *adminv1.Position
	eventID  string
	send     func(context.Context) error
}

// replayRun sends messages at a rate and tells how far it is.
type replayRun struct {
	limit       *rate.Limiter
	maxFailures uint64
	progress    *adminv1.ReplayProgress
	tell        func(*adminv1.ReplayProgress) error
	told        time.Time
	failures    int // told so far
}

func newReplayRun(p pace, planned uint64, tell func(*adminv1.ReplayProgress) error) *replayRun {
	return &replayRun{
		limit: rate.NewLimiter(rate.Limit(p.rate), 1), maxFailures: count(p.maxFailures), tell: tell,
		progress: &adminv1.ReplayProgress{Planned: planned},
	}
}

// run sends all jobs, until too many have failed or the caller goes away. An
// error of the jobs' own ends it too.
func (r *replayRun) run(ctx context.Context, jobs iter.Seq2[job, error]) error {
	if err := r.report(true); err != nil {
		return err
	}
	for j, err := range jobs {
		if err != nil {
			return err
		}
		if err := r.limit.Wait(ctx); err != nil { // a second at most
			return err
		}
		r.do(ctx, j)
		if r.progress.GetFailed() >= r.maxFailures {
			r.progress.StoppedBecause = fmt.Sprintf("%d could not be sent", r.progress.GetFailed())
			break
		}
		if err := r.report(false); err != nil {
			return err
		}
	}
	r.progress.Done = true
	return r.report(true)
}

// do sends one message. A caller that goes away doesn't cut it in half.
func (r *replayRun) do(ctx context.Context, j job) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	err := j.send(bounded)
	switch {
	case err == nil:
		r.progress.Replayed++
	case errors.Is(err, errGone):
		r.progress.Skipped++
	default:
		if r.progress.Failed++; r.failures < maxToldFailures {
			r.failures++
			r.progress.Failures = append(r.progress.Failures, &adminv1.ReplayFailure{Position: j.position, EventId: utf8s(j.eventID), Error: utf8s(err.Error())})
		}
	}
}

// report tells how far the replay is, if it is time to.
func (r *replayRun) report(now bool) error {
	if !now && time.Since(r.told) < tellEvery {
		return nil
	}
	r.told = time.Now()
	err := r.tell(r.progress)
	if !r.progress.GetDone() {
		r.progress.Failures = nil
	}
	return err
}
