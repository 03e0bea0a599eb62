package simulator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Run makes every change and sends its webhooks to target, the URL of a
// receiver. It returns when every webhook was answered or given up, or with
// ctx's error when ctx ends before. It may be called once.
//
// The receiver may come and go meanwhile: what it doesn't take is sent again
// for as long as MaxAttempts and RetryMax allow.
func (p *Provider) Run(ctx context.Context, target string) error {
	jobs := make(chan webhook) // closed below, when nothing more comes
	var workers, open sync.WaitGroup
	for range p.cfg.Concurrency {
		workers.Go(func() {
			for w := range jobs {
				p.deliver(ctx, target, w)
				open.Done()
			}
		})
	}
	send := func(ws ...webhook) {
		for _, w := range ws {
			open.Add(1)
			jobs <- w // a worker takes it in bounded time: deliver ends with ctx
		}
	}
	started := time.Now()
	for i, st := range p.plan.steps {
		if err := p.pace(ctx, started, i); err != nil {
			break
		}
		send(p.held.due(i)...)
		send(p.step(i, st)...)
	}
	// Repeats are held back when what they repeat was taken, so the first round
	// may bring a second.
	for open.Wait(); ctx.Err() == nil; open.Wait() {
		rest := p.held.due(len(p.plan.steps) + maxBehind)
		if len(rest) == 0 {
			break
		}
		send(rest...)
	}
	close(jobs)
	workers.Wait()
	p.client.CloseIdleConnections()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("simulated provider: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	return nil
}

// pace waits until change i is due.
func (p *Provider) pace(ctx context.Context, started time.Time, i int) error {
	if p.cfg.Rate > 0 {
		due := started.Add(time.Duration(float64(i) / p.cfg.Rate * float64(time.Second)))
		return wait(ctx, time.Until(due))
	}
	return ctx.Err()
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step makes change i and returns the webhooks to send now.
func (p *Provider) step(i int, st step) (now []webhook) {
	p.mu.Lock()
	r := p.store.change(st, time.Now())
	w := newWebhook(p.cfg.Run, i, st, r)
	p.book.Changes = append(p.book.Changes, Change{
		RecordID: r.ID, Version: r.Version, At: r.UpdatedAt, Deleted: r.Deleted, Poisoned: r.Poisoned,
		DeliveryID: w.id, Dropped: st.dropped,
	})
	p.mu.Unlock()
	switch {
	case st.dropped:
	case st.behind > 0:
		p.held.hold(w, i+st.behind)
	default:
		now = append(now, w)
	}
	if st.forgery != "" {
		now = append(now, newForged(p.cfg.Run, i, st, r))
	}
	return now
}

// held has the webhooks that wait until later ones were sent.
type held struct {
	mu   sync.Mutex
	list []heldWebhook
}

type heldWebhook struct {
	webhook
	until int // the change
}

func (h *held) hold(w webhook, until int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, heldWebhook{w, until})
}

// due takes out what waited for change i.
func (h *held) due(i int) (now []webhook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = slices.DeleteFunc(h.list, func(w heldWebhook) bool {
		if w.until > i {
			return false
		}
		now = append(now, w.webhook)
		return true
	})
	return now
}
