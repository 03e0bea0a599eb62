// Package control lets operators ask running services to do something now.
//
// A request is a NATS request with a JSON body, answered by one replica of the
// service. Whoever may publish to tercel.control.> may ask; leave it to
// operators.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/cursor"
)

// Errors of [RunReconcile]. Texts that come with them say which resources are
// known and who has the lease.
var (
	// ErrNobody means that no reconciler is there to answer.
	ErrNobody = errors.New("no reconciler answers: is one running with this NATS account?")
	// ErrUnknown means that the pipeline file has no such resource to reconcile.
	ErrUnknown = errors.New("unknown resource")
	// ErrRunning means that the resource is being reconciled already.
	ErrRunning = errors.New("already running")
	// ErrPaused means that the resource, its account or its source is paused.
	ErrPaused = errors.New("paused")
)

// answerTimeout bounds waiting for a reconciler's answer.
const answerTimeout = 10 * time.Second

// reconcilerCodes are the errors of reconcilers that a caller may branch on.
var reconcilerCodes = map[string]error{
	"unknown": ErrUnknown, "running": ErrRunning, "paused": ErrPaused, "range": ErrRange, "over": cursor.ErrBackfillOver,
}

// Request asks for one reconciliation run.
type Request struct {
	Source   string `json:"source"`
	Resource string `json:"resource"`
	// Account may be empty where the source has one account or none.
	Account string `json:"account,omitzero"`
	// DryRun compares and reports, and changes nothing.
	DryRun bool `json:"dry_run,omitzero"`
	// Deletes looks for records that are held and are gone at the source, and
	// with Tombstone deletes them at the destinations.
	Deletes   bool `json:"deletes,omitzero"`
	Tombstone bool `json:"tombstone,omitzero"`
}

// Started says that a run has begun; its report will carry Run.
type Started struct {
	Run       string    `json:"run"`
	Source    string    `json:"source"`
	Account   string    `json:"account"`
	Resource  string    `json:"resource"`
	StartedAt time.Time `json:"started_at"`
}

var reconcile = kind[Request, Started]{
	subject: "tercel.control.reconcile.run", queue: "reconciler", who: "a reconciler", nobody: ErrNobody,
	bound: answerTimeout, atOnce: 1, asks: "ask for a reconciliation",
	wants: "source, resource, account, dry_run, deletes and tombstone", codes: reconcilerCodes,
}

// RunReconcile asks a reconciler to begin a run and returns when it has begun,
// or with [ErrNobody], [ErrUnknown], [ErrRunning], [ErrPaused], or what the reconciler said.
func RunReconcile(ctx context.Context, nc *nats.Conn, req Request) (Started, error) {
	return reconcile.ask(ctx, nc, req)
}

// ServeReconcile answers requests with begin, one after the other, until ctx
// ends. The context of begin ends while whoever asked still waits. An error of begin is
// told to them; wrap [ErrUnknown], [ErrRunning] and [ErrPaused] where they apply.
func ServeReconcile(ctx context.Context, nc *nats.Conn, begin func(context.Context, Request) (Started, error)) error {
	return reconcile.serve(ctx, nc, begin)
}
