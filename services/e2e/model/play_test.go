package model_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/report"
)

const (
	// patience bounds each wait. The machine may be busy.
	patience = 2 * time.Minute
	// maxRuns is how many runs may be needed until all is compared.
	maxRuns = 60
)

// play is a history that is played.
type play struct {
	*world
	ctx     context.Context
	account string
	book    *book
	sent    int        // webhooks made
	held    []happened // whose webhooks were not yet sent
	unheard int        // deletes whose webhooks were lost
	begun   map[string]uint64
	reports map[string]report.Report
	told    chan *nats.Msg
	outages atomic.Int64
	away    sync.RWMutex // held for writing during an outage, for reading by who asks the server meanwhile
}

// play plays a history with an account of its own and returns what is wrong in
// the end.
func (w *world) play(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	name := account(w.used)
	p := &play{
		world: w, ctx: ctx, account: name, book: newBook(name), begun: map[string]uint64{}, reports: map[string]report.Report{},
		told: make(chan *nats.Msg, 1000),
	}
	w.used++
	w.watch.off.Store(0)
	w.mu.Lock()
	w.books[p.account] = p.book
	w.mu.Unlock()
	sub, err := w.nc.ChanSubscribe("tercel.reports."+source+"."+w.target(), p.told)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := p.first(); err != nil {
		return err
	}
	for _, s := range steps {
		if err := p.do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := p.finish(); err != nil {
		return err
	}
	return w.pause(ctx, p.account)
}

// first is what was before a history: records from long ago, of which no webhook
// tells, and one that stays, since a scan believes no list with nothing in it.
func (p *play) first() error {
	if p.old {
		for i, id := range []string{"old1", "old2", "old3", "OLD1"} {
			at := p.clock.now().Add(-youngest - time.Duration(i)*(oldest-youngest)/4).Truncate(p.granule)
			p.book.put(id, at)
			if err := p.announce(happened{Order: id, At: at}, lost); err != nil {
				return err
			}
		}
	}
	if p.deletes {
		if err := p.do(step{do: change, id: "stays", webhook: sent}); err != nil {
			return err
		}
	}
	if err := p.began(p.ctx, p.account, p.clock.now()); err != nil {
		return err
	}
	return p.resume(p.ctx, p.account)
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
		r := p.book.put(s.id, p.clock.now().Truncate(p.granule))
		return p.announce(happened{Order: s.id, At: r.Updated, again: s.again}, s.webhook)
	case late:
		at, err := p.edge()
		if err != nil {
			return err
		}
		r := p.book.put(s.id, at)
		return p.announce(happened{Order: s.id, At: r.Updated, again: s.again}, s.webhook)
	case remove:
		if !p.book.remove(s.id) {
			return nil
		}
		if s.webhook == lost {
			p.unheard++
		}
		return p.announce(happened{Kind: "order.removed", Order: s.id, At: p.clock.now().Truncate(p.granule), again: s.again}, s.webhook)
	case release:
		if len(p.held) == 0 {
			return nil
		}
		h := p.held[0]
		p.held = p.held[1:]
		return p.post(h)
	case pass:
		p.clock.pass(s.for_)
	case drain:
		return p.drained()
	case reconcile:
		return p.amid(s, func() error { _, err := p.run(); return err })
	case schedule:
		return p.amid(s, func() error { return p.due("") })
	case scan:
		return p.amid(s, func() error { return p.scan(s.byHand) })
	case fill:
		return p.amid(s, func() error { return p.backfill(s.fill, len(s.within) > 0) })
	case steer:
		return p.steer(s.action)
	case crash:
		p.parts[s.part].crash(s.at, s.after)
	case down:
		p.parts[s.part].kill(false)
	case up:
		p.parts[s.part].raise()
	case outage:
		return p.outage(s.id)
	case setClock:
		p.watch.off.Store(int64(s.for_))
	}
	return nil
}

// edge is the earliest time that a change may have which can be seen only now:
// what the next window begins with. Before the first run all times are open.
func (p *play) edge() (time.Time, error) {
	now := p.clock.now().Truncate(p.granule)
	e, err := p.cursor("")
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
	// A scheduled run may begin at any time.
	if soon := now.Add(exact - settle); p.scheduled && soon.After(through) {
		through = soon
	}
	from := through.Add(-p.overlap)
	// Who changed at that time shows an earlier one, where times are written less
	// exactly. A list that ends with what is older takes it for that.
	if at := from.Truncate(p.granule); at.Before(from) && p.endsEarly {
		from = at.Add(p.granule)
	} else {
		from = at
	}
	if from.After(now) {
		return now, nil
	}
	return from, nil
}

func (p *play) announce(h happened, f fate) error {
	p.sent++
	h.seq, h.ID = p.sent, fmt.Sprintf("%s-%d", p.account, p.sent)
	if h.Kind == "" {
		h.Kind = "order.changed"
	}
	p.book.tell(h)
	switch f {
	case sent:
		return p.post(h)
	case twice:
		if err := p.post(h); err != nil {
			return err
		}
		return p.post(h)
	case held:
		p.held = append(p.held, h)
	}
	return nil
}

// post sends a webhook until it is taken. While the ingress is down it is held
// back.
func (p *play) post(h happened) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	var again pauses
	for {
		_, handler, err := p.parts["ingress"].up(ctx)
		if err != nil {
			return err
		}
		if handler == nil {
			p.held = append(p.held, h)
			return nil
		}
		status := p.offer(ctx, p.account, h)
		if status/100 == 2 {
			return nil
		}
		if status != http.StatusServiceUnavailable {
			return fmt.Errorf("webhook answered %d", status)
		}
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("webhook is not taken: %w", err)
		}
	}
}

// offer sends a webhook once and returns how it is answered.
func (w *world) offer(ctx context.Context, account string, h happened) int {
	handler := w.parts["ingress"].door()
	if handler == nil {
		return http.StatusServiceUnavailable
	}
	body := h.body(w.unsigned)
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/"+source+"/"+account, bytes.NewReader(body))
	r.Header = w.sign(body)
	r.Header.Set("Content-Type", "application/json")
	if w.unsigned {
		r.Header.Set("X-Delivery", h.ID)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer.Code
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
