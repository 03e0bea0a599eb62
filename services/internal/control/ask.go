package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/event"
)

// maxWaiting bounds the requests of one kind that wait at one replica.
const maxWaiting = 64

// kind is a kind of request Q, with its answer A.
type kind[Q, A any] struct {
	subject string
	// queue is the group of replicas of which one answers, who is what one of them is
	// called, and nobody the error while there is none.
	queue, who string
	nobody     error
	// bound is how long whoever asks waits.
	bound time.Duration
	// atOnce is how many requests a replica works on at the same time.
	atOnce int
	// asks is what is done by it, wants the members of a request, both for errors.
	asks, wants string
	// codes are the errors that whoever asks may branch on.
	codes map[string]error
}

// failure is what goes over the wire in place of an answer.
type failure struct {
	Error string `json:"error,omitzero"`
	Code  string `json:"code,omitzero"`
}

// remote is an error that another process told.
type remote struct {
	text string
	kind error // nil for one without a code
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.kind }

// ask sends a request and waits for its answer. Its error is nobody, one of those
// that have a code, or what the replica said.
func (k kind[Q, A]) ask(ctx context.Context, nc *nats.Conn, q Q) (a A, err error) {
	m := nats.NewMsg(k.subject)
	if m.Data, err = json.Marshal(q); err != nil {
		return a, fmt.Errorf("%s: %w", k.asks, err)
	}
	event.InjectTrace(ctx, m.Header)
	ctx, cancel := context.WithTimeout(ctx, k.bound)
	defer cancel()
	got, err := nc.RequestMsgWithContext(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return a, k.nobody
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", k.asks, err)
	}
	var f failure
	if err := json.Unmarshal(got.Data, &f); err == nil && f.Error != "" {
		return a, &remote{f.Error, k.codes[f.Code]}
	}
	if err := json.Unmarshal(got.Data, &a); err != nil {
		return a, fmt.Errorf("%s: the answer is not %s's", k.asks, k.who)
	}
	return a, nil
}

// request is one that has come.
type request struct {
	*nats.Msg
	at time.Time
}

// serve answers requests with do until ctx ends and the last one is answered.
func (k kind[Q, A]) serve(ctx context.Context, nc *nats.Conn, do func(context.Context, Q) (A, error)) error {
	requests := make(chan request, maxWaiting) // never closed
	sub, err := nc.QueueSubscribe(k.subject, k.queue, func(m *nats.Msg) {
		select {
		case requests <- request{m, time.Now()}:
		default: // nobody would hear of it in time
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", k.subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var all sync.WaitGroup
	for range k.atOnce {
		all.Go(func() {
			for {
				select {
				case r := <-requests:
					// Nobody may be waiting for the answer any more, which is no fault.
					_ = r.Respond(k.answer(ctx, r, do))
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
	return nil
}

// answer does what a request asks for. What has begun is ended, and in time, so that
// whoever asks hears of it. One that has waited so long that they hear of nothing any
// more, and perhaps ask again, isn't begun.
func (k kind[Q, A]) answer(ctx context.Context, r request, do func(context.Context, Q) (A, error)) []byte {
	ctx, cancel := context.WithDeadline(event.ExtractTrace(context.WithoutCancel(ctx), r.Header), r.at.Add(k.bound*3/4))
	defer cancel()
	var q Q
	if json.Unmarshal(r.Data, &q, json.RejectUnknownMembers(true)) != nil {
		return k.refuse(errors.New("want a JSON object with " + k.wants))
	}
	if ctx.Err() != nil {
		return k.refuse(fmt.Errorf("%s: others were before it for too long: ask again", k.asks))
	}
	a, err := do(ctx, q)
	if err != nil {
		return k.refuse(err)
	}
	data, err := json.Marshal(a)
	if err != nil { // a text that is not UTF-8
		return k.refuse(errors.New("the answer can't be written as JSON"))
	}
	return data
}

// refuse is the answer of an error.
func (k kind[Q, A]) refuse(cause error) []byte {
	f := failure{Error: cause.Error()}
	for code, known := range k.codes {
		if errors.Is(cause, known) {
			f.Code = code
		}
	}
	data, err := json.Marshal(f)
	if err != nil { // as above
		return []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	return data
}
