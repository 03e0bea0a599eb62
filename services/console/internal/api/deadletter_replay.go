package api

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/replay"
)

// replayStages are where a letter's message can begin.
var replayStages = map[adminv1.ReplayStage]string{
	adminv1.ReplayStage_REPLAY_STAGE_UNSPECIFIED: "", adminv1.ReplayStage_REPLAY_STAGE_ENRICH: topology.StageEnrich,
	adminv1.ReplayStage_REPLAY_STAGE_DELIVER: topology.StageDeliver, adminv1.ReplayStage_REPLAY_STAGE_VERIFY: topology.StageVerify,
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
	return replay.Choice{Filter: f, ReplayOptions: deadletter.ReplayOptions{
		Force: req.GetForce(), LeaveDiscarded: !slices.Contains(f.States, deadletter.StateDiscarded),
		Stage: stage, Destinations: req.GetDestinations(),
	}}, nil
}

// PlanDeadLetterReplay says what a replay would do.
func (s deadLetters) PlanDeadLetterReplay(ctx context.Context, req *connect.Request[adminv1.PlanDeadLetterReplayRequest]) (*connect.Response[adminv1.PlanDeadLetterReplayResponse], error) {
	c, err := s.choice(req.Msg)
	if err != nil {
		return nil, err
	}
	if err := s.canBegin(ctx, c.Stage); err != nil {
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
	watch, err := watchFor(req.Msg.GetWatch())
	if err != nil {
		return err
	}
	if err := s.canBegin(ctx, c.Stage); err != nil {
		return err
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
	t := &teller{stream: topology.StreamDLQ, away: cancel, send: func(p replay.Progress, failures []*adminv1.ReplayFailure) error {
		return out.Send(&adminv1.ReplayDeadLettersResponse{
			Progress: replayProgress(p, failures), Delivered: count(p.Delivered), DeadAgain: count(p.DeadAgain), Filtered: count(p.Filtered),
		})
	}}
	return t.run(ctx, s.js, replay.Job{
		Sequences: p.Sequences, Send: replay.Letters(s.js, c.ReplayOptions), Rate: pace.rate, MaxFailures: pace.maxFailures, Watch: watch,
	})
}
