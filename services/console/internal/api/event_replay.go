package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// chosen is a trigger that a replay would send again.
type chosen struct {
	sequence uint64 // in TERCEL_RAW
	at       time.Time
	event    event.Event
}

// PlanEventReplay says what a replay would do.
func (s events) PlanEventReplay(ctx context.Context, req *connect.Request[adminv1.PlanEventReplayRequest]) (*connect.Response[adminv1.PlanEventReplayResponse], error) {
	f, err := newReplayFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	through, err := s.through(ctx, f)
	if err != nil {
		return nil, err
	}
	p := s.newPlanner()
	for c, err := range s.choose(ctx, f, through) {
		if err != nil {
			return nil, err
		}
		if !p.add(c.at, c.event, c.event.Origin == event.Replay) {
			break
		}
	}
	return connect.NewResponse(&adminv1.PlanEventReplayResponse{
		Plan: p.plan(s.sealPlan(f.EventFilter, plan{through, p.count})),
	}), nil
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

// choose yields the triggers of a filter, oldest first, each once, up to a
// sequence of the stream that the filter looks at.
func (s events) choose(ctx context.Context, f eventFilter, through uint64) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		stream, subjects := f.place()
		seen := map[uint64]bool{} // a trigger can have several events
		for m, err := range consume.Scan(ctx, s.js, consume.ScanOptions{Stream: stream, Subjects: subjects, HeadersOnly: true, FromTime: f.since}) {
			if err != nil {
				yield(chosen{}, err)
				return
			}
			if m.Sequence > through || !f.until.IsZero() && !m.StoredAt.Before(f.until) {
				return
			}
			e, err := event.FromHeader(m.Header)
			if err != nil || !f.chooses(e) {
				continue
			}
			c := chosen{m.Sequence, m.StoredAt, e}
			if f.byRecord() {
				if c.sequence = e.TriggerSequence; c.sequence == 0 || seen[c.sequence] {
					continue
				}
				seen[c.sequence] = true
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// ReplayEvents carries out a plan.
func (s events) ReplayEvents(ctx context.Context, req *connect.Request[adminv1.ReplayEventsRequest], out *connect.ServerStream[adminv1.ReplayEventsResponse]) error {
	f, err := newReplayFilter(req.Msg.GetFilter())
	if err != nil {
		return err
	}
	p, err := s.openPlan(f.EventFilter, req.Msg.GetPlanToken())
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
	run := newReplayRun(pace, p.count, func(progress *adminv1.ReplayProgress) error {
		return out.Send(&adminv1.ReplayEventsResponse{Progress: progress})
	})
	stream, err := s.js.Stream(ctx, topology.StreamRaw)
	if err != nil {
		return err
	}
	return run.run(ctx, func(yield func(job, error) bool) {
		// All are chosen before the first is sent: at a low rate the server would not
		// keep what hands them out for so long.
		var jobs []job
		for c, err := range s.choose(ctx, f, p.through) {
			if err != nil {
				yield(job{}, err)
				return
			}
			jobs = append(jobs, job{
				position: position(topology.StreamRaw, c.sequence), eventID: c.event.ID,
				send: func(ctx context.Context) error { return s.sendAgain(ctx, stream, c.sequence) },
			})
		}
		for _, j := range jobs {
			if !yield(j, nil) {
				return
			}
		}
	})
}

// sendAgain publishes a stored trigger under a fresh message id; inside the dedup
// window the server would swallow the old one. It has the event id that it had,
// and names the first trigger's sequence, so that the event which answers it
// answers the first.
func (s events) sendAgain(ctx context.Context, stream jetstream.Stream, sequence uint64) error {
	original, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("message %s %d: %w", topology.StreamRaw, sequence, err)
	}
	if !strings.HasPrefix(original.Subject, event.PrefixRaw+".") {
		return errGone // of the requests and notes in the stream none is a trigger
	}
	m := nats.NewMsg(original.Subject)
	m.Data = original.Data
	for name, values := range original.Header {
		if !strings.HasPrefix(strings.ToLower(name), "nats-") { // the server would obey them
			m.Header[name] = values
		}
	}
	m.Header.Set(event.HeaderOrigin, string(event.Replay))
	if m.Header.Get(event.HeaderTriggerSequence) == "" {
		m.Header.Set(event.HeaderTriggerSequence, strconv.FormatUint(sequence, 10))
	}
	m.Header.Set(jetstream.MsgIDHeader, event.AgainID(original.Header.Get(jetstream.MsgIDHeader), event.Replay))
	event.InjectTrace(ctx, m.Header)
	if _, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectStream(topology.StreamRaw)); err != nil {
		return fmt.Errorf("send trigger %d again: %w", sequence, err)
	}
	return nil
}
