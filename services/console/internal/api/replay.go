package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/internal/replay"
)

// Bounds of replays, of events and of dead letters alike.
const (
	maxPlanned         = 100_000
	defaultRate        = 100
	maxRate            = 10_000
	defaultMaxFailures = 10
	maxToldFailures    = 20
	// What was sent is watched for so long after the last message.
	defaultWatch = 30 * time.Second
	maxWatch     = 10 * time.Minute
)

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

// canBegin says whether a replay can begin at a stage: where requests are checked
// again, an ingress has to be there.
func (a *API) canBegin(ctx context.Context, stage string) error {
	if stage != topology.StageVerify {
		return nil
	}
	return control.AwaitIngress(ctx, a.deps.Conn)
}

// watchFor is how long a replay is watched.
func watchFor(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return defaultWatch, nil
	}
	if w := d.AsDuration(); d.IsValid() && w >= 0 && w <= maxWatch {
		return w, nil
	}
	return 0, invalid("watch", "0s to 10 minutes")
}

// teller tells a caller how far a replay is.
type teller struct {
	stream string            // that what is replayed stands in
	ids    map[uint64]string // of events by their sequences, as far as they are known
	send   func(replay.Progress, []*adminv1.ReplayFailure) error
	away   context.CancelCauseFunc

	mu       sync.Mutex // guards what follows
	failures []*adminv1.ReplayFailure
	told     int
}

// run carries a job out. The context's cause is what away was called with.
func (t *teller) run(ctx context.Context, js jetstream.JetStream, j replay.Job) error {
	_, err := replay.Run(ctx, js, j, t.tell, t.fail)
	if cause := context.Cause(ctx); cause != nil { // the caller has gone; what was sent stays sent
		return cause
	}
	return err
}

func (t *teller) fail(f replay.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told == maxToldFailures {
		return
	}
	t.told++
	failure := &adminv1.ReplayFailure{Position: position(t.stream, f.Sequence), EventId: utf8s(t.ids[f.Sequence]), Error: utf8s(f.Err.Error())}
	var refused *control.Refusal
	if errors.As(f.Err, &refused) {
		failure.Checks = checkVerdicts(refused.Checks)
	}
	t.failures = append(t.failures, failure)
}

func (t *teller) tell(p replay.Progress) {
	t.mu.Lock()
	failures := t.failures
	t.failures = nil
	t.mu.Unlock()
	if err := t.send(p, failures); err != nil {
		t.away(err)
	}
}

func replayProgress(p replay.Progress, failures []*adminv1.ReplayFailure) *adminv1.ReplayProgress {
	return &adminv1.ReplayProgress{
		Planned: count(p.Planned), Replayed: count(p.Replayed), Skipped: count(p.Skipped), Failed: count(p.Failed), Failures: failures,
		Done: p.Done, StoppedBecause: p.Stopped, NotRepeated: count(p.NotRepeated),
	}
}
