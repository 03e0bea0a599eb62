package api

import (
	"cmp"
	"context"
	"iter"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/internal/replay"
)

// chosen is a trigger that a replay would send again.
type chosen struct {
	sequence uint64 // in TERCEL_RAW
	at       time.Time
	event    event.Event
	// again says that it is a replay of one that was chosen before, and no choice of
	// its own.
	again bool
}

// PlanEventReplay says what a replay would do.
func (s events) PlanEventReplay(ctx context.Context, req *connect.Request[adminv1.PlanEventReplayRequest]) (*connect.Response[adminv1.PlanEventReplayResponse], error) {
	c, err := s.chosenFor(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	through, err := s.through(ctx, c.filter)
	if err != nil {
		return nil, err
	}
	p := s.newPlanner()
	for one, err := range s.choose(ctx, c.filter, through) {
		if err != nil {
			return nil, err
		}
		if one.again {
			p.out.ReplayedBefore++
		} else if !p.add(one.at, one.event, one.event.Origin == event.Replay) {
			break
		}
	}
	return connect.NewResponse(&adminv1.PlanEventReplayResponse{
		Plan: p.plan(s.sealPlan(c.asked, plan{through, p.count})),
	}), nil
}

// triggerChoice is which triggers are replayed, and where they begin.
type triggerChoice struct {
	asked  *adminv1.PlanEventReplayRequest
	filter eventFilter
	stage  string
}

func (s events) chosenFor(ctx context.Context, asked *adminv1.PlanEventReplayRequest) (c triggerChoice, err error) {
	if c.filter, err = newReplayFilter(asked.GetFilter()); err != nil {
		return c, err
	}
	stage, ok := replayStages[asked.GetStage()]
	if !ok || stage == topology.StageDeliver {
		return c, invalid("stage", "verify or enrich, since a trigger has nothing to deliver yet")
	}
	c.asked, c.stage = &adminv1.PlanEventReplayRequest{Filter: c.filter.EventFilter, Stage: asked.GetStage()}, stage
	return c, s.canBegin(ctx, stage)
}

// newReplayFilter checks a filter of triggers to send again.
func newReplayFilter(f *adminv1.EventFilter) (eventFilter, error) {
	out, err := newEventFilter(f)
	switch {
	case err != nil:
		return out, err
	case f.GetSource() == "" && f.GetId() == "" && f.GetRecordId() == "" && f.GetSince() == nil:
		return out, invalid("filter", "at least one of source, id, record_id and since, so that not everything is chosen by accident")
	case len(f.GetStatus()) > 0:
		return out, invalid("filter.status", "none: triggers are chosen by what they are")
	}
	return out, nil
}

// through is the last sequence that a plan is about.
func (s events) through(ctx context.Context, f eventFilter) (uint64, error) {
	name, _ := f.place()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// choose yields the triggers of a filter, oldest first, up to a sequence of the
// stream that the filter looks at. Each comes once: neither with every event that it
// has nor with every replay of it, which the stream holds too, since replays would
// multiply. That it was replayed is told once.
func (s events) choose(ctx context.Context, f eventFilter, through uint64) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		stream, subjects := f.place()
		seen := map[trigger]bool{} // with whether it was told that it was replayed
		for m, err := range consume.Scan(ctx, s.js, consume.ScanOptions{Stream: stream, Subjects: subjects, HeadersOnly: true, FromTime: f.since}) {
			if err != nil {
				yield(chosen{}, err)
				return
			}
			if m.Sequence > through || !f.until.IsZero() && !m.StoredAt.Before(f.until) {
				return
			}
			e, err := event.FromHeader(m.Header)
			// Of an event whose trigger was edited, that one isn't what it names.
			if err != nil || !f.chooses(e) || f.byRecord() && (e.TriggerSequence == 0 || e.Edited) {
				continue
			}
			c := chosen{sequence: m.Sequence, at: m.StoredAt, event: e}
			of := trigger{sequence: cmp.Or(e.TriggerSequence, m.Sequence), id: e.ID, edited: e.Edited}
			if f.byRecord() {
				c.sequence, of = e.TriggerSequence, trigger{sequence: e.TriggerSequence, receivedAt: e.ReceivedAt.UnixNano()}
			}
			told, known := seen[of]
			if known && (told || e.Origin != event.Replay) {
				continue
			}
			c.again, seen[of] = known, e.Origin == event.Replay
			if !yield(c, nil) {
				return
			}
		}
	}
}

// trigger is what a trigger and its replays have in common. One that was edited is
// another, and so is one whose request was checked again and has another id since. In
// a stream that was made anew, one that came at another time has the sequence.
type trigger struct {
	sequence   uint64
	id         string
	edited     bool
	receivedAt int64 // in ns since 1970, where the events are looked at
}

// ReplayEvents carries out a plan.
func (s events) ReplayEvents(ctx context.Context, req *connect.Request[adminv1.ReplayEventsRequest], out *connect.ServerStream[adminv1.ReplayEventsResponse]) error {
	c, err := s.chosenFor(ctx, &adminv1.PlanEventReplayRequest{Filter: req.Msg.GetFilter(), Stage: req.Msg.GetStage()})
	if err != nil {
		return err
	}
	p, err := s.openPlan(c.asked, req.Msg.GetPlanToken())
	if err != nil {
		return err
	}
	if p.count > maxPlanned {
		return fail(connect.CodeFailedPrecondition, adminv1.Reason_REASON_TOO_MANY, "the plan was cut after %d messages; choose fewer", maxPlanned)
	}
	pace, err := newPace(req.Msg.GetRate(), req.Msg.GetMaxFailures())
	if err != nil {
		return err
	}
	watch, err := watchFor(req.Msg.GetWatch())
	if err != nil {
		return err
	}
	// All are chosen before the first is sent: at a low rate the server would not
	// keep what hands them out for so long.
	ids, of := map[uint64]string{}, map[uint64]control.Expected{}
	var sequences []uint64
	for one, err := range s.choose(ctx, c.filter, p.through) {
		if err != nil {
			return err
		}
		if one.again {
			continue
		}
		if limit := int(req.Msg.GetLimit()); limit > 0 && len(sequences) == limit {
			break
		}
		if _, known := of[one.sequence]; !known {
			sequences = append(sequences, one.sequence)
		}
		// Of two events that name a sequence the later one is of what stands there now.
		ids[one.sequence], of[one.sequence] = one.event.ID, control.Expect(one.event)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &teller{stream: topology.StreamRaw, ids: ids, away: cancel, send: func(p replay.Progress, failures []*adminv1.ReplayFailure) error {
		return out.Send(&adminv1.ReplayEventsResponse{
			Progress: replayProgress(p, failures), Delivered: count(p.Delivered), DeadAgain: count(p.DeadAgain), Filtered: count(p.Filtered),
		})
	}}
	return t.run(ctx, s.js, replay.Job{
		Sequences: sequences, Send: replay.Triggers(s.js, c.stage, of), Rate: pace.rate, MaxFailures: pace.maxFailures, Watch: watch,
	})
}
