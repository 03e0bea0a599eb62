package enricher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/publish"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// outage sees to it that triggers wait for an API that is out, throttles or
// refuses the credential, without holding up what could be done meanwhile.
//
// What concerns the whole source pauses its consumer: all replicas stop, and
// the triggers stay where they are. What concerns one account's credential is
// for the triggers of that account alone, which come back one by one. Those
// count against the triggers that the server hands out without an answer, so
// when they become so many that soon nothing would be handed out at all, further
// ones of such an account are given up, to be replayed.
type outage struct {
	source   string
	api      *sourceapi.Client
	js       jetstream.JetStream
	log      *slog.Logger
	patience time.Duration // how long a trigger may wait
	now      func() time.Time

	mu      sync.Mutex // guards what follows
	paused  time.Time  // until when the consumer was paused last
	counted time.Time  // when the server was asked last for what has no answer
	crowded bool       // and what it said
}

// askTimeout bounds what is asked of the server about a source. A question to a
// consumer that has no leader is lost, and all workers would wait for its answer.
const askTimeout = 2 * time.Second

// crowdedShare is the share of the triggers that may be without an answer which
// those of sick accounts may take, and countEvery how often it is looked at.
const (
	crowdedShare = .75
	countEvery   = time.Second
)

// after is called when the API was asked for a trigger of that age, with what came of
// it. It returns that error, or a permanent one. What can't be stored says nothing of
// the API, and all accounts wait for that.
func (o *outage) after(ctx context.Context, age time.Duration, err error) error {
	if isUnstored(err) {
		return err
	}
	if !fault.IsPostponed(err) {
		o.pause(ctx, age) // an answer may have said that it was the last one
		return err
	}
	if o.pause(ctx, age) || !o.isCrowded(ctx) {
		return err
	}
	return fault.Permanent(fmt.Errorf("given up to leave room for other accounts: %w", err))
}

// pause stops the source's consumer while its API wants no calls: all replicas
// stop at once. It reports whether the source as a whole is held. While triggers
// come that have waited too long the consumer runs on, so that they are given up
// before their stream drops them.
func (o *outage) pause(ctx context.Context, age time.Duration) (held bool) {
	wait := o.api.Held()
	if wait == 0 {
		return false
	}
	until := o.now().Add(wait)
	if age > o.patience || wait < time.Second/2 {
		return true
	}
	o.mu.Lock()
	known := until.Sub(o.paused) < time.Second/2
	if !known {
		o.paused = until
	}
	o.mu.Unlock()
	if known {
		return true
	}
	if err := o.pauseFor(ctx, wait); err != nil { // the triggers wait one by one instead
		o.log.LogAttrs(ctx, slog.LevelWarn, "source not paused", slog.String("source", o.source), slog.Any("err", err))
	}
	return true
}

// pauseFor pauses the source's consumer, unless an operator has: a pause of ours
// would end before theirs. The server ends a pause by its own clock, so that is
// asked for the time: the one here may be hours ahead.
func (o *outage) pauseFor(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cons, err := o.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(o.source))
	if err != nil || topology.PausedByHand(cons.CachedInfo()) {
		return err
	}
	until := cons.CachedInfo().TimeStamp.Add(wait)
	if _, err := o.js.PauseConsumer(ctx, topology.StreamRaw, topology.EnrichDurable(o.source), until); err != nil {
		return err
	}
	o.log.LogAttrs(ctx, slog.LevelInfo, "source paused", slog.String("source", o.source), slog.Time("until", until))
	return nil
}

// isCrowded reports whether too many triggers wait. While that is not known,
// they don't.
func (o *outage) isCrowded(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.counted) < countEvery {
		return o.crowded
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cons, err := o.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(o.source))
	o.counted = time.Now()
	if err != nil {
		o.crowded = false
		return false
	}
	info := cons.CachedInfo()
	o.crowded = float64(info.NumAckPending) > crowdedShare*float64(info.Config.MaxAckPending)
	return o.crowded
}

// combine makes one error of those of a trigger's records. Its fate is that of
// the record with the most hope: a trigger is given up at once only when each
// record that failed would fail again, and as long as one could not be tried
// there was no attempt.
func combine(errs []error) error {
	var texts []string
	var single error
	permanent, postponed, unstored, wait, asked := true, false, false, time.Duration(0), false
	for _, err := range errs {
		if err == nil {
			continue
		}
		single, texts = err, append(texts, err.Error())
		permanent = permanent && fault.IsPermanent(err)
		postponed, unstored = postponed || fault.IsPostponed(err), unstored || isUnstored(err)
		if d, ok := fault.Delay(err); ok {
			wait, asked = max(wait, d), true
		}
	}
	if len(texts) < 2 {
		return single
	}
	all := errors.New(strings.Join(texts, "; ")) // not joined: a mark on one is not for all
	switch {
	case permanent:
		return fault.Permanent(all)
	case unstored: // which says nothing of the API
		return fault.Postpone(fmt.Errorf("%w: %w", publish.ErrUnavailable, all), wait)
	case postponed:
		return fault.Postpone(all, wait)
	case asked:
		return fault.RetryAfter(all, wait)
	default:
		return all
	}
}
