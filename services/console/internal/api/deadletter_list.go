package api

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// ListDeadLetters lists one page of letters, the newest first.
func (s deadLetters) ListDeadLetters(ctx context.Context, req *connect.Request[adminv1.ListDeadLettersRequest]) (*connect.Response[adminv1.ListDeadLettersResponse], error) {
	f, err := newLetterFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	before, size, err := page(req.Msg)
	if err != nil {
		return nil, err
	}
	states, err := deadletter.OpenStates(ctx, s.js)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListDeadLettersResponse{}
	until := time.Now().Add(listFor)
	var failed error
	next, err := lookback.Read(ctx, s.js, lookback.Options{
		Stream: topology.StreamDLQ, Subjects: f.subjects(), HeadersOnly: true, Before: before, Since: f.since,
	}, func(m consume.Message) bool {
		l := deadletter.Decode(m)
		if f.mayChoose(l) {
			if failed = states.Load(ctx, &l); failed != nil {
				return false
			}
			if f.hasState(l) {
				resp.DeadLetters = append(resp.DeadLetters, letter(l))
			}
		}
		return len(resp.GetDeadLetters()) < size && time.Now().Before(until)
	})
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	resp.NextPageToken = nextPage(req.Msg, next)
	return connect.NewResponse(resp), nil
}

// subjects are those of all letters that the filter chooses, and not many more.
func (f letterFilter) subjects() []string {
	stage, source, account := "*", "*", "*"
	if f.GetStage() != "" {
		stage = event.Escape(f.GetStage())
	}
	if f.GetSource() != "" {
		source = event.Escape(f.GetSource())
	}
	if f.GetAccount() != "" {
		account = event.AccountToken(f.GetAccount())
	}
	return []string{event.PrefixDLQ + "." + stage + "." + source + "." + account + "." + typeSubject(f.GetType())}
}
