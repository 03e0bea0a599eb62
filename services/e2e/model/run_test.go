package model_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

// amid does something, and what is to happen within it at one of its pages.
func (p *play) amid(s step, do func() error) error {
	var within error
	if len(s.within) > 0 {
		p.hook.set(s.page, s.early, func() {
			for _, s := range s.within {
				if s.do == outage {
					p.reached.add(outagesWithin, 1)
				}
				if err := p.do(s); err != nil && within == nil {
					within = fmt.Errorf("%s: %w", s, err)
				}
			}
		})
	}
	err := do()
	p.hook.set(0, false, nil)
	p.hook.doing.Wait()
	return errors.Join(err, within)
}

// run makes a run and returns its report, which another life of the service may
// give, or none where it has ended and died before it gave one: then that is the
// next run's to give. Without a reconciler nothing happens.
func (p *play) run() (report.Report, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	stored, err := p.stored(topology.StreamRaw, event.PrefixRaw)
	if err != nil {
		return report.Report{}, err
	}
	// What a scheduled run has begun claims what was so at a time that isn't known.
	left, err := p.cursor("")
	if err != nil {
		return report.Report{}, err
	}
	died, id, err := p.begin(ctx, control.Request{})
	if err != nil || id == "" {
		return report.Report{}, err
	}
	if _, resumed := p.begun[id]; !resumed && (left.Window == nil || left.Window.Run != id) {
		p.begun[id] = stored
	}
	return p.reported(ctx, died, id, "")
}

// reported waits for the report of a run.
func (p *play) reported(ctx context.Context, died <-chan struct{}, id string, work cursor.Work) (report.Report, error) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var again pauses
	for {
		if r, ok := p.reports[id]; ok {
			return r, nil
		}
		select {
		case m := <-p.told:
			if err := p.hear(m); err != nil {
				return report.Report{}, err
			}
			continue
		case <-died:
			if err := again.wait(ctx); err != nil {
				return report.Report{}, fmt.Errorf("run %s gives no report: %w", id, err)
			}
		case <-look.C:
			// While the server was away a report may have been missed, or a run have
			// failed without being able to say so.
			if p.outages.Load() == 0 {
				continue
			}
			if err := p.readReports(); err != nil {
				return report.Report{}, err
			}
			if held, err := p.isHeld(ctx, work); err != nil || held {
				continue
			}
		case <-ctx.Done():
			return report.Report{}, fmt.Errorf("run %s gives no report: %w", id, ctx.Err())
		}
		c, err := p.cursor(work)
		if err != nil {
			return report.Report{}, err
		}
		if c.Window == nil || c.Window.Run != id || p.outages.Load() > 0 {
			return p.reports[id], nil
		}
	}
}

// lookEvery is the time between two looks for what nobody may tell.
const lookEvery = 200 * time.Millisecond

// hear takes a report in.
func (p *play) hear(m *nats.Msg) error {
	r, err := report.Decode(m.Data)
	if err == nil && r.Account == p.account {
		p.reports[r.Run] = r
	}
	return err
}

// isHeld reports whether somebody has the lease of a run.
func (p *play) isHeld(ctx context.Context, work cursor.Work) (held bool, err error) {
	err = p.asking(func() error {
		holder, err := cursor.Holder(ctx, p.js, p.key(p.account, work).Lease())
		held = holder != ""
		return err
	})
	return held, err
}

// readReports takes in all that there are.
func (p *play) readReports() error {
	return p.asking(func() error {
		all, err := report.List(p.ctx, p.js, report.Query{Source: source, Resource: p.target(), Limit: 10_000})
		for _, r := range all {
			if r.Account == p.account {
				p.reports[r.Run] = r
			}
		}
		return err
	})
}

func (p *play) cursor(work cursor.Work) (e cursor.Entry, err error) {
	err = p.asking(func() error {
		store, err := cursor.Open(p.ctx, p.js)
		if err == nil {
			e, err = store.Load(p.ctx, p.key(p.account, work))
		}
		return err
	})
	return e, err
}

// begin asks for a run until one has begun, and returns its id and the end of the
// life in which it did.
func (p *play) begin(ctx context.Context, req control.Request) (died <-chan struct{}, id string, err error) {
	req.Source, req.Account, req.Resource = source, p.account, p.target()
	var again pauses
	stuck := nudge{play: p}
	for {
		died, _, err := p.parts["reconciler"].up(ctx)
		if err != nil || died == nil {
			return nil, "", err
		}
		life, end := context.WithCancel(ctx)
		go func() {
			select {
			case <-died:
				end()
			case <-life.Done():
			}
		}()
		var started control.Started
		err = p.asking(func() error {
			started, err = control.RunReconcile(life, p.nc, req)
			return err
		})
		dead := life.Err() != nil
		end()
		switch {
		case err == nil:
			return died, started.Run, nil
		case errors.Is(err, control.ErrRunning), errors.Is(err, control.ErrNobody), errors.Is(err, control.ErrPaused), dead, p.outages.Load() > 0:
		default:
			return nil, "", err
		}
		stuck.maybe()
		if again.wait(ctx) != nil {
			return nil, "", fmt.Errorf("no run begins: %w", err)
		}
	}
}

// nudge starts the reconciler anew after an outage, in growing intervals. By
// itself it goes on too, once leases that it could not give back have ended and
// waits for the server are over: these take as long as they do.
type nudge struct {
	*play
	next  time.Time
	after time.Duration
}

func (n *nudge) maybe() {
	switch now := time.Now(); {
	case n.outages.Load() == 0:
	case n.after == 0:
		n.after, n.next = time.Second, now.Add(time.Second)
	case now.After(n.next):
		n.restart()
		n.after *= 2
		n.next = now.Add(n.after)
	}
}

// restart starts the reconciler anew, unless it is to stay down.
func (p *play) restart() {
	if r := p.parts["reconciler"]; !r.isDown() {
		r.kill(false)
		r.raise()
	}
}

// stored is the sequence of the last message of the account in a stream.
func (p *play) stored(stream, prefix string) (uint64, error) {
	st, err := p.js.Stream(p.ctx, stream)
	if err != nil {
		return 0, err
	}
	m, err := st.GetLastMsgForSubject(p.ctx, prefix+"."+source+"."+event.AccountToken(p.account)+".>")
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// drained waits until all that is stored has been enriched and delivered, as far
// as there are services that could.
func (p *play) drained() error {
	err := p.through("enricher", topology.StreamRaw, event.PrefixRaw, topology.EnrichDurable(source))
	if err != nil {
		return err
	}
	return p.through("sink", topology.StreamEnriched, event.PrefixEnriched, topology.DeliverDurable(destination))
}

func (p *play) through(part, stream, prefix, durable string) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	last, err := p.stored(stream, prefix)
	if err != nil {
		return err
	}
	var again pauses
	for {
		died, _, err := p.parts[part].up(ctx)
		if err != nil || died == nil {
			return err
		}
		cons, err := p.js.Consumer(ctx, stream, durable)
		if err == nil {
			// That nothing is pending may only mean that the consumer hasn't heard yet.
			i := cons.CachedInfo()
			if i.AckFloor.Stream >= last || i.NumPending == 0 && i.NumAckPending == 0 && i.Delivered.Stream >= last {
				return nil
			}
		} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("%s is not through: %w", part, err)
		}
	}
}
