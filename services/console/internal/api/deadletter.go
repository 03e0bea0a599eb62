package api

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// deadLetters is the DeadLetterService.
type deadLetters struct {
	*API
	adminv1connect.UnimplementedDeadLetterServiceHandler
}

// GetDeadLetter returns one letter with its payload.
func (s deadLetters) GetDeadLetter(ctx context.Context, req *connect.Request[adminv1.GetDeadLetterRequest]) (*connect.Response[adminv1.GetDeadLetterResponse], error) {
	limit, err := payloadLimit(req.Msg.GetMaxPayloadBytes())
	if err != nil {
		return nil, err
	}
	if req.Msg.GetSequence() == 0 {
		return nil, invalid("sequence", "the sequence of a letter")
	}
	l, err := deadletter.Get(ctx, s.js, req.Msg.GetSequence())
	if err != nil {
		return nil, err
	}
	shown := l.Payload[:min(len(l.Payload), limit)]
	return connect.NewResponse(&adminv1.GetDeadLetterResponse{
		DeadLetter: letter(l), ContentType: utf8s(l.Event.ContentType), Payload: shown, PayloadBytes: uint64(len(l.Payload)),
		Truncated: len(shown) < len(l.Payload), Detail: utf8s(l.Reason.Detail),
	}), nil
}

// letter is a dead letter as callers get it.
func letter(l deadletter.Letter) *adminv1.DeadLetter {
	out := &adminv1.DeadLetter{
		Sequence: l.Sequence, Attributes: attributes(l.Event), Stage: utf8s(l.Stage), Name: utf8s(l.Name), Original: position(utf8s(l.Stream), l.OriginalSequence),
		Subject: utf8s(l.Subject), ErrorClass: utf8s(string(l.Reason.Class)), Message: utf8s(l.Reason.Message), Attempts: uint32(max(0, l.Reason.Attempts)),
		FirstAt: stamp(l.Reason.FirstAt), LastAt: stamp(l.Reason.LastAt), DeadAt: stamp(l.DeadAt), TraceId: utf8s(l.Reason.TraceID),
		State: letterStates[l.State], PayloadMissing: l.PayloadMissing,
	}
	if r := l.Replayed; r != nil {
		out.Replayed = &adminv1.DeadLetterReplay{At: stamp(r.At), MsgId: utf8s(r.MsgID), Position: position(utf8s(r.Stream), r.Sequence)}
	}
	return out
}

var letterStates = map[deadletter.State]adminv1.DeadLetterState{
	deadletter.StateOpen: adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN, deadletter.StateReplayed: adminv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED,
}

// letterFilter is a filter that has been checked.
type letterFilter struct {
	*adminv1.DeadLetterFilter
	since, until time.Time
}

func newLetterFilter(f *adminv1.DeadLetterFilter) (letterFilter, error) {
	if f == nil {
		f = &adminv1.DeadLetterFilter{}
	}
	out := letterFilter{DeadLetterFilter: f}
	err := short(map[string]string{
		"filter.source": f.GetSource(), "filter.account": f.GetAccount(), "filter.type": f.GetType(), "filter.stage": f.GetStage(),
		"filter.destination": f.GetDestination(), "filter.fingerprint": f.GetFingerprint(), "filter.event_id": f.GetEventId(),
	})
	if err != nil {
		return out, err
	}
	if out.since, err = moment("filter.since", f.GetSince()); err != nil {
		return out, err
	}
	if out.until, err = moment("filter.until", f.GetUntil()); err != nil {
		return out, err
	}
	switch {
	case f.GetType() != "" && !typePattern(f.GetType()):
		return out, invalid("filter.type", `a type, in which "*" stands for one part between dots and ">" at the end for one or more`)
	case f.GetStage() != "" && !slices.Contains([]string{"verify", "enrich", "deliver"}, f.GetStage()):
		return out, invalid("filter.stage", "verify, enrich or deliver")
	case len(f.GetSequence()) > maxLetters:
		return out, invalid("filter.sequence", "at most 1,000")
	case f.GetUntil() != nil && f.GetSince() != nil && !out.since.Before(out.until):
		return out, invalid("filter.until", "later than since")
	}
	for _, state := range f.GetState() {
		if _, known := adminv1.DeadLetterState_name[int32(state)]; !known || state == 0 {
			return out, invalid("filter.state", "states of the contract")
		}
	}
	return out, nil
}

const maxLetters = 1000

// mayChoose holds a letter against all of the filter but its state.
func (f letterFilter) mayChoose(l deadletter.Letter) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	source := l.Event.Source
	if source == "" && l.Stage == topology.StageEnrich { // its original was gone
		source = l.Name
	}
	return is(f.GetSource(), source) && is(f.GetAccount(), l.Event.Account) && is(f.GetStage(), l.Stage) &&
		(f.GetDestination() == "" || l.Stage == topology.StageDeliver && l.Name == f.GetDestination()) &&
		(f.GetEventId() == "" || f.GetEventId() == l.Event.ID || f.GetEventId() == l.Event.DeliveryID) &&
		(f.GetType() == "" || event.Match(f.GetType(), l.Event.Type)) &&
		(len(f.GetSequence()) == 0 || slices.Contains(f.GetSequence(), l.Sequence)) &&
		(f.since.IsZero() || !l.DeadAt.Before(f.since)) && (f.until.IsZero() || l.DeadAt.Before(f.until))
}

// hasState holds what became of a letter against the filter.
func (f letterFilter) hasState(l deadletter.Letter) bool {
	return len(f.GetState()) == 0 || slices.Contains(f.GetState(), letterStates[l.State])
}
