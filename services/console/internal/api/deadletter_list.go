package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/timeline"
)

// ListDeadLetters lists one page of letters, the newest first.
func (s deadLetters) ListDeadLetters(ctx context.Context, req *connect.Request[adminv1.ListDeadLettersRequest]) (*connect.Response[adminv1.ListDeadLettersResponse], error) {
	f, err := letterFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	before, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListDeadLettersResponse{}
	if f.EventID != "" {
		found, next, ok, err := s.ofEvent(ctx, f, before, size)
		if err != nil {
			return nil, err
		}
		if ok {
			resp.DeadLetters, resp.NextPageToken = found, nextPage(req.Msg, next)
			return connect.NewResponse(resp), nil
		}
	}
	f.Before, f.Limit = before, size+1 // one more tells whether there is another page
	until := time.Now().Add(listFor)
	for l, err := range deadletter.Newest(ctx, s.js, f) {
		if err != nil {
			return nil, err
		}
		if n := len(resp.GetDeadLetters()); n == size || n > 0 && time.Now().After(until) {
			resp.NextPageToken = nextPage(req.Msg, resp.GetDeadLetters()[n-1].GetSequence())
			break
		}
		if l, err = l.RedactedIn(ctx, s.js, s.cfg.Redact); err != nil {
			return nil, err
		}
		resp.DeadLetters = append(resp.DeadLetters, letter(l))
	}
	return connect.NewResponse(resp), nil
}

// ofEvent lists an event's letters by the index: no subject has its id, and reading
// all letters for it takes longest when there are most. It reports false where the
// index doesn't know all of them.
func (s deadLetters) ofEvent(ctx context.Context, f deadletter.Filter, before uint64, size int) (found []*adminv1.DeadLetter, next uint64, ok bool, err error) {
	all, err := s.deps.Index.Find(ctx, timeline.Query{ID: f.EventID, Source: f.Source, Account: f.Account})
	if err != nil {
		return nil, 0, false, err
	}
	for _, c := range all.Coverage {
		if all.More || c.Stream == topology.StreamDLQ && c.Behind() {
			return nil, 0, false, nil
		}
	}
	for _, m := range slices.Backward(all.Messages) {
		if m.Stream != topology.StreamDLQ || before > 0 && m.Sequence >= before {
			continue
		}
		if len(found) == size {
			return found, found[size-1].GetSequence(), true, nil
		}
		l, err := deadletter.Get(ctx, s.js, m.Sequence)
		switch {
		case errors.Is(err, deadletter.ErrNotFound): // it has left the stream meanwhile
		case err != nil:
			return nil, 0, false, err
		case f.Chooses(l):
			found = append(found, letter(l.Redacted(s.cfg.Redact)))
		}
	}
	return found, 0, true, nil
}

// ListDeadLetterGroups lists one page of groups, the one with the latest letter
// first.
func (s deadLetters) ListDeadLetterGroups(ctx context.Context, req *connect.Request[adminv1.ListDeadLetterGroupsRequest]) (*connect.Response[adminv1.ListDeadLetterGroupsResponse], error) {
	f, err := letterFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	from, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	wanted, err := groupFilter(req.Msg.GetState())
	if err != nil {
		return nil, err
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	groups, err := s.groups.by(ctx, string(key), f)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(slices.Clone(groups.Groups), func(g deadletter.Group) bool { return !wanted(g) })
	// A page begins at a place in the list, which is made anew for each: a group
	// that moves up meanwhile may be seen twice or, by this page's reader, not.
	first := min(from, uint64(len(all)))
	end := min(first+uint64(size), uint64(len(all)))
	resp := &adminv1.ListDeadLetterGroupsResponse{Ungrouped: uint64(groups.Ungrouped)}
	for _, g := range all[first:end] {
		if g, err = g.Redacted(ctx, s.js, s.cfg.Redact); err != nil {
			return nil, err
		}
		resp.Groups = append(resp.Groups, group(g))
	}
	if end < uint64(len(all)) {
		resp.NextPageToken = nextPage(req.Msg, end)
	}
	return connect.NewResponse(resp), nil
}

var groupStates = map[deadletter.GroupState]adminv1.DeadLetterGroupState{
	deadletter.GroupOpen:    adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN,
	deadletter.GroupWatched: adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED,
	deadletter.GroupClosed:  adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_CLOSED,
}

// groupFilter checks which states are wanted. None chooses all.
func groupFilter(states []adminv1.DeadLetterGroupState) (wanted func(deadletter.Group) bool, err error) {
	for _, want := range states {
		if _, known := adminv1.DeadLetterGroupState_name[int32(want)]; !known || want == 0 {
			return nil, invalid("state", "states of the contract")
		}
	}
	return func(g deadletter.Group) bool {
		return len(states) == 0 || slices.Contains(states, groupStates[g.State])
	}, nil
}

// group is a group as callers get it.
func group(g deadletter.Group) *adminv1.DeadLetterGroup {
	out := &adminv1.DeadLetterGroup{
		Fingerprint: g.Fingerprint, Stage: utf8s(g.Stage), Source: utf8s(g.Source), Destination: utf8s(g.Destination), ErrorClass: utf8s(string(g.Class)),
		Message: utf8s(g.Message), Open: count(g.Open), Total: count(g.Total), FirstAt: stamp(g.FirstAt), LastAt: stamp(g.LastAt),
		TouchedAt: stamp(g.TouchedAt), Sample: letter(g.Sample), State: groupStates[g.State],
	}
	for _, n := range g.Hourly {
		out.Hourly = append(out.Hourly, count(n))
	}
	return out
}
