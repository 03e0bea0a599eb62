package model_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/control"
)

const (
	// patience bounds each wait. The machine may be busy.
	patience = 2 * time.Minute
	// maxRuns is how many runs may be needed until all is compared.
	maxRuns = 60
)

// notice is a webhook.
type notice struct {
	id, record string
	remove     bool
}

// play is a history that is played.
type play struct {
	*world
	ctx     context.Context
	account string
	book    *book
	sent    int      // webhooks made
	held    []notice // not yet sent
	begun   map[string]uint64
	reports map[string]report.Report
	told    chan *nats.Msg
}

// play plays a history with an account of its own and returns what is wrong in
// the end.
func (w *world) play(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	p := &play{
		world: w, ctx: ctx, account: account(w.used), book: newBook(), begun: map[string]uint64{}, reports: map[string]report.Report{},
		told: make(chan *nats.Msg, 1000),
	}
	w.used++
	w.watch.off.Store(0)
	w.mu.Lock()
	w.books[p.account] = p.book
	w.mu.Unlock()
	sub, err := w.nc.ChanSubscribe("tercel.reports."+source+"."+resource, p.told)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	for _, s := range steps {
		if err := p.do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return p.finish()
}

// exact is how exactly clocks that differ can be put in order, doubled: a source
// tells its own in seconds.
const exact = 2 * time.Second

func (p *play) do(s step) error {
	if p.watch.skew() != 0 {
		p.clock.pass(exact)
	}
	switch s.do {
	case change:
		p.book.put(s.id, p.clock.now().Truncate(p.shape.granule))
		return p.announce(notice{record: s.id}, s.webhook)
	case late:
		at, err := p.edge()
		if err != nil {
			return err
		}
		p.book.put(s.id, at)
		return p.announce(notice{record: s.id}, s.webhook)
	case remove:
		if !p.book.remove(s.id) {
			return nil
		}
		return p.announce(notice{record: s.id, remove: true}, s.webhook)
	case release:
		if len(p.held) == 0 {
			return nil
		}
		n := p.held[0]
		p.held = p.held[1:]
		return p.post(n)
	case pass:
		p.clock.pass(s.for_)
	case drain:
		return p.drained()
	case reconcile:
		return p.reconcile(s)
	case crash:
		p.parts[s.part].crash(s.at, s.after)
	case down:
		p.parts[s.part].kill(false)
	case up:
		p.parts[s.part].raise()
	case setClock:
		p.watch.off.Store(int64(s.for_))
	}
	return nil
}

// edge is the earliest time that a change may have which can be seen only now:
// what the next window begins with. Before the first run all times are open.
func (p *play) edge() (time.Time, error) {
	now := p.clock.now().Truncate(p.shape.granule)
	e, err := p.cursor()
	if err != nil {
		return now, err
	}
	through := e.Through
	if e.Window != nil {
		through = e.Window.To
	}
	if through.IsZero() {
		return now, nil
	}
	from := through.Add(-p.shape.overlap)
	// Who changed at that time shows an earlier one, where times are written less
	// exactly. A list that ends with what is older takes it for that.
	if at := from.Truncate(p.shape.granule); at.Before(from) && p.shape.endsEarly {
		from = at.Add(p.shape.granule)
	} else {
		from = at
	}
	if from.After(now) {
		return now, nil
	}
	return from, nil
}

func (p *play) announce(n notice, f fate) error {
	p.sent++
	n.id = fmt.Sprintf("%s-%d", p.account, p.sent)
	switch f {
	case sent:
		return p.post(n)
	case twice:
		if err := p.post(n); err != nil {
			return err
		}
		return p.post(n)
	case held:
		p.held = append(p.held, n)
	}
	return nil
}

// post sends a webhook until it is taken. While the ingress is down it is held
// back.
func (p *play) post(n notice) error {
	kind := "order.changed"
	if n.remove {
		kind = "order.removed"
	}
	body, err := json.Marshal(map[string]string{"id": n.id, "kind": kind, "order": n.record})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	var again pauses
	for {
		_, handler, err := p.parts["ingress"].up(ctx)
		if err != nil {
			return err
		}
		if handler == nil {
			p.held = append(p.held, n)
			return nil
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/"+source+"/"+p.account, bytes.NewReader(body))
		r.Header = p.sign(body)
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code/100 == 2 {
			return nil
		}
		if answer.Code != http.StatusServiceUnavailable {
			return fmt.Errorf("webhook answered %d: %s", answer.Code, answer.Body)
		}
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("webhook is not taken: %s: %w", answer.Body, err)
		}
	}
}

// pauses are waits that grow, for a condition that others are at work on.
type pauses struct{ next time.Duration }

func (w *pauses) wait(ctx context.Context) error {
	w.next = min(max(2*w.next, 2*time.Millisecond), 100*time.Millisecond)
	select {
	case <-time.After(w.next):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reconcile makes a run and waits for its report, which another life of the
// service may give. Without a reconciler nothing happens.
func (p *play) reconcile(s step) error {
	var within error
	if len(s.within) > 0 {
		p.hook.set(s.page, s.early, func() {
			for _, s := range s.within {
				if err := p.do(s); err != nil && within == nil {
					within = fmt.Errorf("%s: %w", s, err)
				}
			}
		})
	}
	_, err := p.run()
	p.hook.set(0, false, nil)
	p.hook.doing.Wait()
	return errors.Join(err, within)
}

// run makes a run and returns its report, or none where it has ended and died
// before it gave one: then that is the next run's to give.
func (p *play) run() (report.Report, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	stored, err := p.stored(topology.StreamRaw, event.PrefixRaw)
	if err != nil {
		return report.Report{}, err
	}
	died, id, err := p.begin(ctx)
	if err != nil || id == "" {
		return report.Report{}, err
	}
	if _, resumed := p.begun[id]; !resumed {
		p.begun[id] = stored
	}
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
		case <-died:
			if err := again.wait(ctx); err != nil {
				return report.Report{}, fmt.Errorf("run %s gives no report: %w", id, err)
			}
			c, err := p.cursor()
			if err != nil {
				return report.Report{}, err
			}
			if c.Window == nil || c.Window.Run != id {
				return report.Report{}, nil
			}
		case <-ctx.Done():
			return report.Report{}, fmt.Errorf("run %s gives no report: %w", id, ctx.Err())
		}
	}
}

// hear takes a report in.
func (p *play) hear(m *nats.Msg) error {
	var r report.Report
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return err
	}
	p.reports[r.Run] = r
	return nil
}

func (p *play) cursor() (cursor.Entry, error) {
	store, err := cursor.Open(p.ctx, p.js)
	if err != nil {
		return cursor.Entry{}, err
	}
	return store.Load(p.ctx, p.key(p.account))
}

// begin asks for a run until one has begun, and returns its id and the end of the
// life in which it did.
func (p *play) begin(ctx context.Context) (died <-chan struct{}, id string, err error) {
	var again pauses
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
		started, err := control.RunReconcile(life, p.nc, control.Request{Source: source, Account: p.account, Resource: resource})
		dead := life.Err() != nil
		end()
		switch {
		case err == nil:
			return died, started.Run, nil
		case errors.Is(err, control.ErrRunning), errors.Is(err, control.ErrNobody), dead:
		default:
			return nil, "", err
		}
		if again.wait(ctx) != nil {
			return nil, "", fmt.Errorf("no run begins: %w", err)
		}
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

// finish has everything up again, sends what was held back, reconciles to the
// end, and holds what is delivered against the book.
func (p *play) finish() error {
	for _, part := range p.parts {
		part.raise()
	}
	// Some webhooks only come when all is reconciled.
	var after []notice
	for i, n := range slices.Clone(p.held) {
		if n.remove || i%2 == 0 {
			if err := p.post(n); err != nil {
				return err
			}
		} else {
			after = append(after, n)
		}
	}
	if err := p.toTheEnd(); err != nil {
		return err
	}
	if err := p.compare("reconciled"); err != nil {
		return err
	}
	for _, n := range after {
		if err := p.post(n); err != nil {
			return err
		}
	}
	if err := p.drained(); err != nil {
		return err
	}
	if err := p.compare("and the last webhooks have come"); err != nil {
		return err
	}
	return p.honest()
}

// toTheEnd lets all changes settle and makes runs until all of them lie in a
// window that is complete.
func (p *play) toTheEnd() error {
	if err := p.drained(); err != nil {
		return err
	}
	last := p.book.changed()
	p.clock.pass(max(0, last.Sub(p.clock.now())) + max(0, -p.watch.skew()) + settle + 2*time.Second)
	for range maxRuns {
		r, err := p.run()
		switch {
		case err != nil:
			return err
		case r.Error != "":
			return fmt.Errorf("run %s failed: %s", r.Run, r.Error)
		case r.Complete && r.CaughtUp && !r.To.Before(last):
			return p.drained()
		}
		if err := p.drained(); err != nil {
			return err
		}
	}
	return fmt.Errorf("not complete up to %s after %d runs", last, maxRuns)
}
