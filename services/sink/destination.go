package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// errNotOpen is a destination's health before it is opened and after it is
// closed.
var errNotOpen = errors.New("not open")

// destination is one destination with its loop.
type destination struct {
	name     string
	js       jetstream.JetStream
	plan     plan
	shape    shape
	cfg      consume.Config
	consumer jetstream.ConsumerConfig
	loop     *consume.Loop
	log      *slog.Logger
	metrics  instruments

	// tookAt is when the destination last took something, or when it was begun.
	tookAt time.Time
	// writer and seeks are set before loop runs, by the goroutine that runs it.
	writer writer
	// seeks is the age of events for which alone loop runs, or 0.
	seeks time.Duration

	mu sync.Mutex // guards what follows
	// sick is why the destination takes no writes, or nil.
	sick error
	// stop ends the running loop.
	stop context.CancelFunc
	// wrote says that something was written since the destination was opened.
	wrote bool
}

func (s *Service) newDestination(cfg consume.Config, name string, dest pipeline.Destination, deps Deps) (*destination, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	d := &destination{
		name: name, js: deps.JetStream, cfg: cfg, sick: errNotOpen,
		log: deps.Log.With(slog.String("destination", name)),
	}
	d.cfg.GiveUpAfter = cmp.Or(d.cfg.GiveUpAfter, consume.DefaultConfig().GiveUpAfter)
	var err error
	if d.plan, err = newPlan(setup{dest, name, cfg, d.log}); err != nil {
		return nil, err
	}
	if d.shape, err = newShape(dest); err != nil {
		return nil, err
	}
	if d.plan.loop != nil {
		cfg = *d.plan.loop
	}
	if d.metrics, err = newInstruments(name); err != nil {
		return nil, err
	}
	d.consumer = topology.DeliverConsumer(name, dest.Subjects(), cfg.Delivery())
	if !dest.When.IsZero() {
		d.consumer.Metadata = map[string]string{topology.MetadataWhen: dest.When.String()}
	}
	d.loop, err = consume.New(cfg, topology.StreamEnriched, d.consumer, d.handle,
		consume.Deps{
			JetStream: deps.JetStream, Log: deps.Log, Keep: deadletter.Keep(deps.JetStream, topology.DeliverDurable(name)), Note: s.outcomes.Note(topology.DeliverDurable(name)),
		})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// run serves the destination until ctx ends. It waits longer before each try,
// until something was written, and as long as the destination asked.
func (d *destination) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(d.cfg.RetryMin),
		backoff.WithMaxInterval(d.cfg.RetryMax), backoff.WithMaxElapsedTime(0))
	d.took()
	for ctx.Err() == nil {
		wrote, err := d.session(ctx)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				d.log.LogAttrs(ctx, slog.LevelWarn, "destination closed badly", slog.Any("err", err))
			}
			return
		}
		if wrote {
			wait.Reset()
			d.took()
		}
		if errors.Is(err, delivery.ErrUnwanted) {
			d.pause(ctx)
		}
		delay := wait.NextBackOff()
		if asked, ok := fault.Delay(err); ok {
			delay = max(delay, asked)
		}
		d.log.LogAttrs(ctx, slog.LevelWarn, "destination takes no writes",
			slog.Duration("retry_after", delay), slog.Any("err", err))
		d.wait(ctx, delay, !errors.Is(err, delivery.ErrHeld))
	}
}

// wait passes the time until the destination is opened anew. The stream lets go
// of what it has kept for its time, so with seek it looks for overdue events now
// and then.
func (d *destination) wait(ctx context.Context, delay time.Duration, seek bool) {
	ctx, cancel := context.WithTimeout(ctx, delay)
	defer cancel()
	again := time.NewTicker(d.cfg.RetryMax)
	defer again.Stop()
	for {
		if seek {
			d.seek(ctx)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// seek runs the loop where events are overdue, and it makes dead letters of them by
// the rule that it has for all. It ends at the first event that isn't sought: those
// behind it came later.
func (d *destination) seek(ctx context.Context) {
	older, err := d.overdue(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "age of waiting events not known", slog.Any("err", err))
	}
	if older == 0 {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.mu.Lock()
	d.stop, d.seeks = stop, older
	d.mu.Unlock()
	if err := d.loop.Run(ctx); err != nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "overdue events not sought", slog.Any("err", err))
	}
}

// overdue returns the age of events that are to become dead letters now, or 0 if
// there is none. An outage that passes soon is to cost nothing, so all that are
// overdue do only once the destination has taken nothing for a while, and one of them
// has been for as long: each search hands out others, too, and then finds several.
// Before that those do that the stream is about to let go of, however often the sink
// is started anew.
func (d *destination) overdue(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	age, kept, err := d.oldest(ctx)
	all, leaving := d.cfg.GiveUpAfter, kept-pipeline.OverdueLooks*d.cfg.RetryMax
	late := all / pipeline.OverduePart
	switch {
	case err != nil:
		return 0, fmt.Errorf("oldest event for %s: %w", d.name, err)
	case age > all+late && time.Since(d.tookAt) > late:
		return all, nil
	case kept > 0 && age > max(all, leaving):
		return max(all, leaving), nil
	default:
		return 0, nil
	}
}

// took notes that the destination takes events.
func (d *destination) took() { d.tookAt = time.Now() }

// oldest returns how long the first event has been stored that waits for the
// destination, by the server's clock, and how long the stream keeps it (0 for ever).
func (d *destination) oldest(ctx context.Context) (age, kept time.Duration, err error) {
	stream, err := d.js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return 0, 0, err
	}
	var floor uint64 // of a consumer that isn't there, since the destination never was open
	c, err := stream.Consumer(ctx, d.consumer.Durable)
	switch {
	case err == nil:
		floor = c.CachedInfo().AckFloor.Stream
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return 0, 0, err
	}
	first, err := topology.FirstFor(ctx, stream, d.consumer, floor)
	if err != nil || first.IsZero() {
		return 0, 0, err
	}
	info := stream.CachedInfo()
	return info.TimeStamp.Sub(first), info.Config.MaxAge, nil
}

// look ends a search for overdue events when others come.
func (d *destination) look(msgs []consume.Message) {
	if d.seeks > 0 && slices.ContainsFunc(msgs, func(m consume.Message) bool { return m.Age <= d.seeks }) {
		d.stop()
	}
}

// pause keeps events from a destination that wants none, in all sinks and also
// after a restart, as the command for it does. If that fails, the next event
// meets the same answer, and it is done then.
func (d *destination) pause(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	if err := topology.PauseDestination(ctx, d.js, d.name); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "destination wants no more events and is not paused", slog.Any("err", err))
		return
	}
	d.log.LogAttrs(ctx, slog.LevelError, "destination wants no more events and is paused: "+
		"tercel destination resume sends to it again, or take it out of the pipeline file")
}

// session opens the destination and delivers until ctx ends or the destination
// fails. Either way the loop has answered for all that it pulled when the
// destination is closed.
func (d *destination) session(ctx context.Context) (wrote bool, err error) {
	w, err := d.openIn(ctx)
	d.writer, d.seeks = w, 0
	if err != nil {
		d.fail(err)
		return false, err
	}
	loopCtx, stop := context.WithCancel(ctx)
	defer stop()
	d.mu.Lock()
	d.stop, d.sick, d.wrote = stop, nil, false
	d.mu.Unlock()
	d.log.LogAttrs(ctx, slog.LevelInfo, "destination open")
	err = errors.Join(d.loop.Run(loopCtx), d.health(), w.Close())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sick = err; err == nil {
		d.sick = errNotOpen
	}
	return d.wrote, err
}

// openIn opens the destination within the time that one batch may take.
func (d *destination) openIn(ctx context.Context) (writer, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	return d.plan.open(ctx)
}

// handle writes one batch. Messages that are no events don't get in the way of
// those that are.
func (d *destination) handle(ctx context.Context, msgs []consume.Message) []error {
	d.look(msgs)
	errs := make([]error, len(msgs))
	filtered := 0
	items, places := make([]delivery.Item, 0, len(msgs)), make([]int, 0, len(msgs))
	for i, m := range msgs {
		it, err := delivery.Decode(m)
		wanted := false
		if err == nil && it.Event.For(d.name) {
			wanted, err = d.shape.apply(ctx, &it)
		}
		switch {
		case err != nil:
			errs[i] = err
		case wanted:
			items, places = append(items, it), append(places, i)
		default:
			filtered++
		}
	}
	d.metrics.filter(ctx, filtered)
	if len(items) == 0 {
		return errs
	}
	if err := d.health(); err != nil && !d.plan.tells {
		// Left over from before the destination failed, or overdue. They are due
		// again by the time that it is open again.
		for _, i := range places {
			errs[i] = fault.Postpone(fmt.Errorf("deliver to %s: %w", d.name, err), d.cfg.RetryMin)
		}
		return errs
	}
	results := d.writer.Write(ctx, items)
	d.judge(results)
	d.metrics.delivered(ctx, items, results)
	for i, r := range results {
		if r.Err != nil {
			errs[places[i]] = fmt.Errorf("deliver to %s: %w", d.name, r.Err)
		}
	}
	return errs
}

// judge stops the loop when the destination fails. Where results don't tell, it
// does when it took nothing of a batch though nothing was wrong with the items:
// as long as some are written, the failure is the others' own.
func (d *destination) judge(results []delivery.Result) {
	var outage, failure error
	wrote := false
	for _, r := range results {
		switch {
		case r.Err == nil:
			wrote = true
		case r.Outage:
			if outage == nil || errors.Is(r.Err, delivery.ErrUnwanted) {
				outage = r.Err
			}
		case !fault.IsPermanent(r.Err):
			failure = r.Err
		}
	}
	if wrote {
		d.mu.Lock()
		d.wrote = true
		d.mu.Unlock()
	}
	switch {
	case outage != nil:
		d.fail(outage)
	case failure != nil && !wrote && !d.plan.tells:
		d.fail(failure)
	}
}

// fail notes why the destination takes no writes and stops its loop.
func (d *destination) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sick = err
	if d.stop != nil && d.seeks == 0 {
		d.stop()
	}
}

func (d *destination) health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sick
}
