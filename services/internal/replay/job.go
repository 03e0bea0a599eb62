package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/deadletter"
)

// Job is a plan that is carried out.
type Job struct {
	// Sequences are those of what was planned, and Send sends one of them again, as
	// [Letters] and [Triggers] do. Required.
	Sequences []uint64
	Send      func(ctx context.Context, sequence uint64) (Sent, error)
	// Rate is the most messages sent in a second. Required.
	Rate int
	// MaxFailures is how many messages may fail, to be sent or once more in the
	// pipeline, before the rest is left alone. Required.
	MaxFailures int
	// Watch is how long after the last message its outcome is waited for.
	Watch time.Duration
}

// Progress is how far a job is.
type Progress struct {
	// Planned ones are Replayed, Skipped because they are not there any more or
	// somebody replayed them meanwhile, Failed to be sent, or still to come.
	Planned, Replayed, Skipped, Failed int
	// NotRepeated ones were sent although a check of theirs could not be made again.
	NotRepeated int
	// Delivered messages have reached every destination that they are for.
	// Filtered ones were left out by the pipeline file, or no destination takes
	// them. DeadAgain became dead letters. What became of the other ones is not
	// known yet.
	Delivered, Filtered, DeadAgain int
	// Done says that nothing more will be sent or waited for, and Stopped why
	// before its time, or is "".
	Done    bool
	Stopped string
}

// Failure is one message that could not be replayed. Its error wraps a
// [*control.Refusal] where the checks of its request did not accept it.
type Failure struct {
	Sequence uint64
	Err      error
}

// lookEvery is the time between two looks at what became of messages.
const lookEvery = 300 * time.Millisecond

// sendTimeout bounds sending one message, its checks included.
const sendTimeout = 40 * time.Second

// maxSending bounds the messages that are on their way to the server at once.
const maxSending = 16

// run is a job in hand.
type run struct {
	Job
	js    jetstream.JetStream
	fail  func(Failure)
	watch *watch

	mu sync.Mutex // guards p
	p  Progress
}

// Run replays what was planned and tells how far it is, at once and then from
// time to time, and tells each failure. When ctx ends it sends nothing more; what
// was sent stays sent. Messages are sent roughly in their order. The functions are
// called by one goroutine at a time. The last progress is returned too; an error
// says that outcomes can't be watched.
func Run(ctx context.Context, js jetstream.JetStream, j Job, tell func(Progress), fail func(Failure)) (Progress, error) {
	w, err := newWatch(ctx, js)
	if err != nil {
		return Progress{Planned: len(j.Sequences)}, fmt.Errorf("replay: %w", err)
	}
	r := &run{Job: j, js: js, watch: w, p: Progress{Planned: len(j.Sequences)}}
	var mu sync.Mutex // one function at a time
	r.fail = func(f Failure) { mu.Lock(); defer mu.Unlock(); fail(f) }
	told := func(p Progress) { mu.Lock(); defer mu.Unlock(); tell(p) }
	told(r.progress())
	sendCtx, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan struct{})
	go func() { defer close(sent); r.send(sendCtx) }()
	err = r.attend(ctx, stop, sent, told)
	stop()
	<-sent
	r.mu.Lock()
	r.p.Done = true
	if r.p.Stopped == "" && ctx.Err() != nil {
		r.p.Stopped = "it was called off"
	}
	r.mu.Unlock()
	p := r.progress()
	told(p)
	return p, err
}

// attend looks at what becomes of messages until that is known of all of them,
// or for as long as the job says after the last one. It stops the sending when
// too many fail.
func (r *run) attend(ctx context.Context, stop func(), sent <-chan struct{}, tell func(Progress)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sent:
			sent = nil
			timer := time.NewTimer(r.Watch)
			defer timer.Stop()
			end = timer.C
		case <-end:
			return nil
		case <-tick.C:
		}
		seen, err := r.watch.look(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("replay: %w", err)
		}
		r.mu.Lock()
		r.p.Delivered, r.p.Filtered, r.p.DeadAgain = seen.delivered, seen.filtered, seen.dead
		p := r.p
		if bad := p.Failed + p.DeadAgain; bad >= r.MaxFailures && p.Stopped == "" && p.Replayed+p.Skipped+p.Failed < p.Planned {
			r.p.Stopped = fmt.Sprintf("%d messages have failed", bad)
			stop()
		}
		p = r.p
		r.mu.Unlock()
		tell(p)
		if sent == nil && p.Delivered+p.Filtered+p.DeadAgain >= p.Replayed {
			return nil
		}
	}
}

// send sends one message after the other until ctx ends.
func (r *run) send(ctx context.Context) {
	limit := rate.NewLimiter(rate.Limit(r.Rate), 1)
	var sending errgroup.Group
	sending.SetLimit(maxSending)
	for _, seq := range r.Sequences {
		if limit.Wait(ctx) != nil {
			break
		}
		sending.Go(func() error { r.one(ctx, seq); return nil })
	}
	_ = sending.Wait()
}

func (r *run) one(ctx context.Context, seq uint64) {
	// One that has begun is ended: it must not be sent without a note of it.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	done, err := r.Send(bounded, seq)
	if err == nil {
		r.watch.add(done.Replayed)
	}
	r.mu.Lock()
	switch {
	case err == nil:
		r.p.Replayed++
		if done.NotRepeated {
			r.p.NotRepeated++
		}
	case errors.Is(err, ErrGone), errors.Is(err, deadletter.ErrNotFound), errors.Is(err, deadletter.ErrReplayed),
		errors.Is(err, deadletter.ErrDiscarded):
		r.p.Skipped++
	default:
		r.p.Failed++
	}
	r.mu.Unlock()
	if err != nil {
		r.fail(Failure{seq, err})
	}
}

func (r *run) progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.p
}
