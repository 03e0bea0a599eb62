package api

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/replay"
)

// Bounds of what a replay does once its last message was sent.
const (
	defaultWatch = 30 * time.Second
	maxWatch     = 10 * time.Minute
)

// replayStages are where a letter's message can begin.
var replayStages = map[adminv1.ReplayStage]string{
	adminv1.ReplayStage_REPLAY_STAGE_UNSPECIFIED: "", adminv1.ReplayStage_REPLAY_STAGE_ENRICH: topology.StageEnrich,
	adminv1.ReplayStage_REPLAY_STAGE_DELIVER: topology.StageDeliver,
}

// choice checks which letters are to be replayed, and how.
func (s deadLetters) choice(req *adminv1.PlanDeadLetterReplayRequest) (replay.Choice, error) {
	f, err := letterFilter(req.GetFilter())
	if err != nil {
		return replay.Choice{}, err
	}
	if len(f.States) == 0 { // what was discarded is to be left alone
		f.States = []deadletter.State{deadletter.StateOpen, deadletter.StateReplayed}
	}
	stage, ok := replayStages[req.GetStage()]
	if !ok {
		return replay.Choice{}, invalid("stage", "one of the stages of the contract")
	}
	for _, name := range req.GetDestinations() {
		if _, ok := s.cfg.Destinations[name]; !ok {
			return replay.Choice{}, invalid("destinations", "names of destinations of the pipeline file")
		}
	}
	return replay.Choice{Filter: f, ReplayOptions: deadletter.ReplayOptions{Force: req.GetForce(), Stage: stage, Destinations: req.GetDestinations()}}, nil
}

// PlanDeadLetterReplay says what a replay would do.
func (s deadLetters) PlanDeadLetterReplay(ctx context.Context, req *connect.Request[adminv1.PlanDeadLetterReplayRequest]) (*connect.Response[adminv1.PlanDeadLetterReplayResponse], error) {
	c, err := s.choice(req.Msg)
	if err != nil {
		return nil, err
	}
	stream, err := s.js.Stream(ctx, topology.StreamDLQ)
	if err != nil {
		return nil, err
	}
	through := stream.CachedInfo().State.LastSeq
	c.Filter.Before = through + 1
	p, err := replay.Make(ctx, s.js, c)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ReplayPlan{
		Count: count(len(p.Sequences)), ReplayedBefore: count(p.Before), Missing: count(p.Missing), Oldest: stamp(p.Oldest), Newest: stamp(p.Newest),
		Truncated: p.Truncated, PlanToken: s.sealPlan(req.Msg, plan{through, count(len(p.Sequences))}),
	}
	for _, d := range p.Destinations {
		out.Destinations = append(out.Destinations, &adminv1.DestinationCount{
			Destination: d.Name, Count: count(d.Count), Versioned: versioned(s.cfg.Destinations[d.Name]),
		})
	}
	return connect.NewResponse(&adminv1.PlanDeadLetterReplayResponse{Plan: out}), nil
}

// ReplayDeadLetters carries out a plan.
func (s deadLetters) ReplayDeadLetters(ctx context.Context, req *connect.Request[adminv1.ReplayDeadLettersRequest], out *connect.ServerStream[adminv1.ReplayDeadLettersResponse]) error {
	planned := &adminv1.PlanDeadLetterReplayRequest{
		Filter: req.Msg.GetFilter(), Stage: req.Msg.GetStage(), Destinations: req.Msg.GetDestinations(), Force: req.Msg.GetForce(),
	}
	c, err := s.choice(planned)
	if err != nil {
		return err
	}
	token, err := s.openPlan(planned, req.Msg.GetPlanToken())
	if err != nil {
		return err
	}
	pace, err := newPace(req.Msg.GetRate(), req.Msg.GetMaxFailures())
	if err != nil {
		return err
	}
	watch := defaultWatch
	if d := req.Msg.GetWatch(); d != nil {
		if watch = d.AsDuration(); !d.IsValid() || watch < 0 || watch > maxWatch {
			return invalid("watch", "0s to 10 minutes")
		}
	}
	c.Filter.Before = token.through + 1
	p, err := replay.Make(ctx, s.js, c)
	if err != nil {
		return err
	}
	if limit := int(req.Msg.GetLimit()); limit > 0 {
		p.Sequences = p.Sequences[:min(limit, len(p.Sequences))]
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &letterTeller{send: out.Send, away: cancel}
	_, err = replay.Run(ctx, s.js, replay.Job{
		Sequences: p.Sequences, Options: c.ReplayOptions, Rate: pace.rate, MaxFailures: pace.maxFailures, Watch: watch,
	}, t.tell, t.fail)
	if cause := context.Cause(ctx); cause != nil { // the caller has gone; what was sent stays sent
		return cause
	}
	return err
}

// letterTeller tells a caller how far a replay is.
type letterTeller struct {
	send func(*adminv1.ReplayDeadLettersResponse) error
	away context.CancelCauseFunc

	mu       sync.Mutex // guards what follows
	failures []*adminv1.ReplayFailure
	told     int
}

func (t *letterTeller) fail(f replay.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told < maxToldFailures {
		t.told++
		t.failures = append(t.failures, &adminv1.ReplayFailure{Position: position(topology.StreamDLQ, f.Sequence), Error: utf8s(f.Err.Error())})
	}
}

func (t *letterTeller) tell(p replay.Progress) {
	t.mu.Lock()
	failures := t.failures
	t.failures = nil
	t.mu.Unlock()
	err := t.send(&adminv1.ReplayDeadLettersResponse{
		Progress: &adminv1.ReplayProgress{
			Planned: count(p.Planned), Replayed: count(p.Replayed), Skipped: count(p.Skipped), Failed: count(p.Failed), Failures: failures,
			Done: p.Done, StoppedBecause: p.Stopped,
		},
		Delivered: count(p.Delivered), DeadAgain: count(p.DeadAgain),
	})
	if err != nil {
		t.away(err)
	}
}
