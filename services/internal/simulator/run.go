package simulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	s := newSender(p, target)
	made := p.changeAll(ctx, s)
	// Repeats are held back when what they repeat was taken, so the first round
	// may bring a second.
	for s.open.Wait(); ctx.Err() == nil; s.open.Wait() {
		rest := p.held.due(made + maxBehind)
		if len(rest) == 0 {
			break
		}
		s.send(ctx, rest...)
	}
	p.client.CloseIdleConnections()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("simulated provider: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	return nil
}

// changeAll makes changes until there are no more to make, and returns how many
// there were.
func (p *Provider) changeAll(ctx context.Context, s *sender) (made int) {
	started := time.Now()
	for steps := p.plan.steps; ; steps = p.nextRound(made) {
		for _, st := range steps {
			if p.pace(ctx, started, made) != nil {
				return made
			}
			s.send(ctx, p.held.due(made)...)
			s.send(ctx, p.step(made, st)...)
			made++
		}
		if !p.cfg.Endless || made+len(steps) > maxEvents {
			return made
		}
	}
}

// nextRound plans the round that begins after the changes made so far.
func (p *Provider) nextRound(made int) []step {
	next := newPlan(p.cfg, made/p.cfg.Events)
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.store.plan.poisoned, next.poisoned)
	return next.steps
}

var errStopped = errors.New("stopped")

// pace waits until change i is due, or returns why there is none.
func (p *Provider) pace(ctx context.Context, started time.Time, i int) error {
	select {
	case <-p.stop:
		return errStopped
	default:
	}
	due := started
	if p.cfg.Rate > 0 {
		due = started.Add(time.Duration(float64(i) / p.cfg.Rate * float64(time.Second)))
	}
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-p.stop:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
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
