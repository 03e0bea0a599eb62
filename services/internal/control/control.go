// Package control lets operators ask running services to do something now.
//
// A request is a NATS request with a JSON body, answered by one replica of the
// service. Whoever may publish to tercel.control.> may ask; leave it to
// operators.
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

const (
	subjectRun = "tercel.control.reconcile.run"
	queue      = "reconciler"
	// maxWaiting bounds the requests that wait at one replica.
	maxWaiting = 64
	// answerTimeout bounds waiting for an answer when the caller has no bound.
	answerTimeout = 10 * time.Second
)

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

// answer is what goes over the wire: a Started, or an error with its code.
type answer struct {
	Started
	Error string `json:"error,omitzero"`
	Code  string `json:"code,omitzero"`
}

// codes are the errors that a caller may branch on.
var codes = map[string]error{"unknown": ErrUnknown, "running": ErrRunning, "paused": ErrPaused, "range": ErrRange, "over": cursor.ErrBackfillOver}

// codeOf is the code of an error, or "".
func codeOf(err error) string {
	for code, kind := range codes {
		if errors.Is(err, kind) {
			return code
		}
	}
	return ""
}

// remote is an error that another process told.
type remote struct {
	text string
	kind error // nil for one without a code
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.kind }

// RunReconcile asks a reconciler to begin a run and returns when it has begun,
// or with [ErrNobody], [ErrUnknown], [ErrRunning], [ErrPaused], or what the reconciler said.
func RunReconcile(ctx context.Context, nc *nats.Conn, req Request) (Started, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return Started{}, fmt.Errorf("reconcile: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subjectRun, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return Started{}, ErrNobody
	}
	if err != nil {
		return Started{}, fmt.Errorf("ask for a reconciliation: %w", err)
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Started{}, errors.New("ask for a reconciliation: the answer is not a reconciler's")
	}
	if a.Error != "" {
		return Started{}, &remote{a.Error, codes[a.Code]}
	}
	return a.Started, nil
}

// ServeReconcile answers requests with begin, one after the other, until ctx
// ends. An error of begin is told to whoever asked; wrap [ErrUnknown],
// [ErrRunning] and [ErrPaused] where they apply.
func ServeReconcile(ctx context.Context, nc *nats.Conn, begin func(Request) (Started, error)) error {
	requests := make(chan *nats.Msg, maxWaiting) // never closed; what is over is dropped by the client
	sub, err := nc.ChanQueueSubscribe(subjectRun, queue, requests)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectRun, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		select {
		case m := <-requests:
			// Nobody may be waiting for the answer any more, which is no fault.
			_ = m.Respond(handle(m.Data, begin))
		case <-ctx.Done():
			return nil
		}
	}
}

func handle(data []byte, begin func(Request) (Started, error)) []byte {
	var req Request
	if err := json.Unmarshal(data, &req, json.RejectUnknownMembers(true)); err != nil {
		return encode(answer{Error: "want a JSON object with source, resource, account, dry_run, deletes and tombstone"})
	}
	started, err := begin(req)
	if err == nil {
		return encode(answer{Started: started})
	}
	return encode(answer{Error: err.Error(), Code: codeOf(err)})
}

func encode(a answer) []byte {
	data, err := json.Marshal(a)
	if err != nil { // a text that is not UTF-8
		return []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	return data
}
