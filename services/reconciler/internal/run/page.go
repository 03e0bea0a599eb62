package run

import (
	"context"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// page is one page of a list.
type page struct {
	provider.Page
	ask         provider.PageRequest
	requestedAt time.Time
	date        string // the source's clock, as its answer has it
}

// fetch asks for the page of the window's part at position.
func (r *Runner) fetch(ctx context.Context, w cursor.Window, position string) (page, error) {
	span := r.span(w)
	ask, err := r.list.Request(r.path, provider.Place{From: span.From, To: span.To, State: w.State, Position: position, Full: w.Full})
	if err != nil {
		return page{}, fault.Permanent(err)
	}
	answer, err := r.call(ctx, sourceapi.Request{Method: ask.Method, Path: ask.Path, Query: ask.Query, Body: ask.Body, GraphQL: ask.GraphQL})
	if err != nil {
		return page{}, err
	}
	p := page{ask: ask, requestedAt: answer.ObservedAt, date: answer.Header.Get("Date")}
	p.Page, err = r.list.Page(ask, r.cfg.Base, answer.Header, answer.Body)
	return p, err
}

// call makes a request of the account's, which gives way to others if the runner
// does.
func (r *Runner) call(ctx context.Context, q sourceapi.Request) (sourceapi.Answer, error) {
	q.Account, q.Background = r.cfg.Key.Account, r.cfg.Background
	return r.deps.API.Do(ctx, q)
}
