package api

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/deadletter"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
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
	f.Before, f.Limit = before, size+1 // one more tells whether there is another page
	resp := &adminv1.ListDeadLettersResponse{}
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
	all, err := deadletter.GroupBy(ctx, s.js, f, s.deps.Now())
	if err != nil {
		return nil, err
	}
	// A page begins at a place in the list, which is made anew for each: a group
	// that moves up meanwhile may be seen twice or, by this page's reader, not.
	first := min(from, uint64(len(all.Groups)))
	end := min(first+uint64(size), uint64(len(all.Groups)))
	resp := &adminv1.ListDeadLetterGroupsResponse{Ungrouped: uint64(all.Ungrouped)}
	for _, g := range all.Groups[first:end] {
		if g, err = g.Redacted(ctx, s.js, s.cfg.Redact); err != nil {
			return nil, err
		}
		resp.Groups = append(resp.Groups, group(g))
	}
	if end < uint64(len(all.Groups)) {
		resp.NextPageToken = nextPage(req.Msg, end)
	}
	return connect.NewResponse(resp), nil
}

var groupStates = map[deadletter.GroupState]adminv1.DeadLetterGroupState{
	deadletter.GroupOpen:    adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN,
	deadletter.GroupWatched: adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED,
	deadletter.GroupClosed:  adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_CLOSED,
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
