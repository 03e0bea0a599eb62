package api

import (
	"bytes"
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// deadLetters is the DeadLetterService.
type deadLetters struct{ *API }

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
	shown := l.Redacted(s.cfg.Redact)
	resp := &adminv1.GetDeadLetterResponse{
		DeadLetter: letter(shown), ContentType: utf8s(l.Event.ContentType), Payload: head(shown.Payload, limit), PayloadBytes: uint64(len(l.Payload)),
		Truncated: len(shown.Payload) > limit, Redacted: !bytes.Equal(shown.Payload, l.Payload), Detail: utf8s(shown.Reason.Detail),
	}
	if l.Edited {
		edit, err := deadletter.EditOf(ctx, s.js, l)
		if err != nil {
			return nil, err
		}
		edit = edit.Redacted(l, s.cfg.Redact)
		resp.Patch, resp.EditedPayload = utf8s(string(edit.Patch)), head(edit.After, limit)
	}
	return connect.NewResponse(resp), nil
}

// letter is a dead letter as callers get it.
func letter(l deadletter.Letter) *adminv1.DeadLetter {
	out := &adminv1.DeadLetter{
		Sequence: l.Sequence, Attributes: attributes(l.Event), Stage: utf8s(l.Stage), Name: utf8s(l.Name), Original: position(utf8s(l.Stream), l.OriginalSequence),
		Subject: utf8s(l.Subject), ErrorClass: utf8s(string(l.Reason.Class)), Message: utf8s(l.Reason.Message), Attempts: uint32(max(0, l.Reason.Attempts)),
		FirstAt: stamp(l.Reason.FirstAt), LastAt: stamp(l.Reason.LastAt), DeadAt: stamp(l.DeadAt), TraceId: utf8s(l.Reason.TraceID),
		State: letterStates[l.State], PayloadMissing: l.PayloadMissing, Edited: l.Edited, Fingerprint: l.Fingerprint(),
	}
	if d := l.Discarded; d != nil {
		out.DiscardedAt, out.DiscardReason = stamp(d.At), utf8s(d.Reason)
	}
	if r := l.Replayed; r != nil {
		out.Replayed = &adminv1.DeadLetterReplay{At: stamp(r.At), MsgId: utf8s(r.MsgID), Position: position(utf8s(r.Stream), r.Sequence)}
	}
	return out
}

var letterStates = map[deadletter.State]adminv1.DeadLetterState{
	deadletter.StateOpen: adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN, deadletter.StateReplayed: adminv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED,
	deadletter.StateDiscarded: adminv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED,
}

const maxLetters = 1000

// letterFilter checks a filter and returns it as package deadletter takes it. A
// nil one chooses all.
func letterFilter(f *adminv1.DeadLetterFilter) (deadletter.Filter, error) {
	out := deadletter.Filter{
		Source: f.GetSource(), Account: f.GetAccount(), Type: f.GetType(), Stage: f.GetStage(), Destination: f.GetDestination(),
		Fingerprint: f.GetFingerprint(), EventID: f.GetEventId(), Sequences: f.GetSequence(),
	}
	err := short(map[string]string{
		"filter.source": f.GetSource(), "filter.account": f.GetAccount(), "filter.type": f.GetType(), "filter.stage": f.GetStage(),
		"filter.destination": f.GetDestination(), "filter.fingerprint": f.GetFingerprint(), "filter.event_id": f.GetEventId(),
	})
	if err != nil {
		return out, err
	}
	if out.Since, err = moment("filter.since", f.GetSince()); err != nil {
		return out, err
	}
	if out.Until, err = moment("filter.until", f.GetUntil()); err != nil {
		return out, err
	}
	switch {
	case f.GetType() != "" && !typePattern(f.GetType()):
		return out, invalid("filter.type", wantType)
	case f.GetStage() != "" && !slices.Contains([]string{topology.StageEnrich, topology.StageDeliver}, f.GetStage()):
		return out, invalid("filter.stage", "enrich or deliver")
	case len(f.GetSequence()) > maxLetters:
		return out, invalid("filter.sequence", "at most 1,000")
	case f.GetUntil() != nil && f.GetSince() != nil && !out.Since.Before(out.Until):
		return out, invalid("filter.until", "later than since")
	}
	for _, want := range f.GetState() {
		known := false
		for state, s := range letterStates {
			if s == want {
				out.States, known = append(out.States, state), true
			}
		}
		if !known {
			return out, invalid("filter.state", "states of the contract")
		}
	}
	return out, nil
}
