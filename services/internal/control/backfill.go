package control

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// ErrRange means that the records can't be listed as asked for: the time makes
// no sense, or the source has no filter for it.
var ErrRange = errors.New("can't be listed so")

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

// backfilled is an answer as it goes over the wire.
type backfilled struct {
	Backfill cursor.Backfill `json:"backfill"`
}

var backfill = kind[BackfillRequest, backfilled]{
	subject: "tercel.control.reconcile.backfill", queue: "reconciler", who: "a reconciler", nobody: ErrNobody,
	bound: answerTimeout, atOnce: 1, asks: "ask for a backfill",
	wants: "action, and id or source, resource and what else a backfill has", codes: reconcilerCodes,
}

// Backfill asks a reconciler to start or change a backfill and returns it as it
// is then, or [ErrNobody], [ErrUnknown], [ErrRunning], [ErrRange],
// [cursor.ErrBackfillOver], or what the reconciler said. Who wants one paused asks
// nobody: see [cursor.Backfills.Pause].
func Backfill(ctx context.Context, nc *nats.Conn, req BackfillRequest) (cursor.Backfill, error) {
	a, err := backfill.ask(ctx, nc, req)
	return a.Backfill, err
}

// ServeBackfills answers requests with do, one after the other, until ctx ends.
// The context of do ends while whoever asked still waits. An error of do is told to
// them; wrap [ErrUnknown], [ErrRunning], [ErrRange] and [cursor.ErrBackfillOver] where
// they apply.
func ServeBackfills(ctx context.Context, nc *nats.Conn, do func(context.Context, BackfillRequest) (cursor.Backfill, error)) error {
	return backfill.serve(ctx, nc, func(ctx context.Context, req BackfillRequest) (backfilled, error) {
		b, err := do(ctx, req)
		return backfilled{b}, err
	})
}
