package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// ErrRange means that the records can't be listed as asked for: the time makes
// no sense, or the source has no filter for it.
var ErrRange = errors.New("can't be listed so")

const subjectBackfill = "tercel.control.reconcile.backfill"

// Action is what to do to a backfill.
type Action string

// The actions.
const (
	Start  Action = "start"
	Resume Action = "resume"
	Cancel Action = "cancel"
)

// BackfillRequest asks for a backfill, or for a change of one.
type BackfillRequest struct {
	Action Action `json:"action"`
	// ID is the one to change.
	ID string `json:"id,omitzero"`
	// The rest is of one to start, as [cursor.Backfill] has it. AllAccounts is
	// needed for all of several.
	Source      string    `json:"source,omitzero"`
	Resource    string    `json:"resource,omitzero"`
	Account     string    `json:"account,omitzero"`
	AllAccounts bool      `json:"all_accounts,omitzero"`
	From        time.Time `json:"from,omitzero"`
	To          time.Time `json:"to,omitzero"`
	// Slices and Rate may be 0, for what is configured.
	Slices int  `json:"slices,omitzero"`
	Rate   int  `json:"rate,omitzero"`
	DryRun bool `json:"dry_run,omitzero"`
}

type backfillAnswer struct {
	Backfill cursor.Backfill `json:"backfill,omitzero"`
	Error    string          `json:"error,omitzero"`
	Code     string          `json:"code,omitzero"`
}

// Backfill asks a reconciler to start or change a backfill and returns it as it
// is then, or [ErrNobody], [ErrUnknown], [ErrRunning], [ErrRange],
// [cursor.ErrBackfillOver], or what the reconciler said. Who wants one paused asks
// nobody: see [cursor.Backfills.Pause].
func Backfill(ctx context.Context, nc *nats.Conn, req BackfillRequest) (cursor.Backfill, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return cursor.Backfill{}, fmt.Errorf("backfill: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subjectBackfill, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return cursor.Backfill{}, ErrNobody
	}
	if err != nil {
		return cursor.Backfill{}, fmt.Errorf("ask for a backfill: %w", err)
	}
	var a backfillAnswer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return cursor.Backfill{}, errors.New("ask for a backfill: the answer is not a reconciler's")
	}
	if a.Error != "" {
		return cursor.Backfill{}, &remote{a.Error, codes[a.Code]}
	}
	return a.Backfill, nil
}

// ServeBackfills answers requests with do, one after the other, until ctx ends.
// An error of do is told to whoever asked; wrap [ErrUnknown], [ErrRunning],
// [ErrRange] and [cursor.ErrBackfillOver] where they apply.
func ServeBackfills(ctx context.Context, nc *nats.Conn, do func(context.Context, BackfillRequest) (cursor.Backfill, error)) error {
	requests := make(chan *nats.Msg, maxWaiting) // never closed; what is over is dropped by the client
	sub, err := nc.ChanQueueSubscribe(subjectBackfill, queue, requests)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectBackfill, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		select {
		case m := <-requests:
			_ = m.Respond(answerBackfill(ctx, m.Data, do))
		case <-ctx.Done():
			return nil
		}
	}
}

func answerBackfill(ctx context.Context, data []byte, do func(context.Context, BackfillRequest) (cursor.Backfill, error)) []byte {
	var req BackfillRequest
	var a backfillAnswer
	err := json.Unmarshal(data, &req, json.RejectUnknownMembers(true))
	if err != nil {
		err = errors.New("want a JSON object with action, and id or source, resource and what else a backfill has")
	} else {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout*3/4) // whoever asks shall hear of it
		defer cancel()
		a.Backfill, err = do(ctx, req)
	}
	if err != nil {
		a = backfillAnswer{Error: err.Error(), Code: codeOf(err)}
	}
	answer, err := json.Marshal(a)
	if err != nil { // a text that is not UTF-8
		return []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	return answer
}
