package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

// ForgedPrefix begins the delivery id of every forged webhook, which is in its
// X-Delivery header and in its body: nothing at the far end of a pipeline may
// hold it.
const ForgedPrefix = "forged-"

// HeaderDelivery is the header with a webhook's delivery id.
const HeaderDelivery = "X-Delivery"

// maxAnswer bounds how much of a receiver's answer is read, in bytes.
const maxAnswer = 64 << 10

// forgery is how a webhook is forged; "" is not at all.
type forgery string

// The forgeries, each a shape that a receiver might let pass.
const (
	wrongSecret forgery = "wrong secret"
	tampered    forgery = "a body that was changed after it was signed"
	stale       forgery = "a genuine signature of an hour ago"
	unsigned    forgery = "no signature"
	misplaced   forgery = "a genuine signature in another provider's header"
)

var forgeries = []forgery{wrongSecret, tampered, stale, unsigned, misplaced}

// foreign is the header of another provider's signatures.
const foreign = "X-Hub-Signature-256"

// webhook is one webhook to deliver.
type webhook struct {
	kind    Kind
	id      string
	record  string
	body    []byte
	step    int
	twice   bool
	again   int
	must    bool // never given up, even if it is refused for a while
	forgery forgery
	due     time.Time
}

// notice is the body of a webhook: it names the record and doesn't hold it.
type notice struct {
	Delivery string    `json:"delivery"`
	Kind     string    `json:"kind"`
	At       time.Time `json:"at"`
	Order    struct {
		ID string `json:"id"`
	} `json:"order"`
}

func newNotice(id, kind string, r Record) []byte {
	n := notice{Delivery: id, Kind: kind, At: r.UpdatedAt}
	n.Order.ID = r.ID
	return mustJSON(n)
}

func newWebhook(run string, i int, st step, r Record) webhook {
	id := fmt.Sprintf("dlv-%s%07d", run, i+1)
	return webhook{
		kind: Genuine, id: id, record: r.ID, body: newNotice(id, st.kind, r), step: i,
		twice: st.twice, again: st.again, must: st.kind == deleted || r.Poisoned,
	}
}

// newForged makes a webhook that says that a living record is gone: the worst
// that a receiver could believe.
func newForged(run string, i int, st step, r Record) webhook {
	id := fmt.Sprintf("%s%s%07d", ForgedPrefix, run, i+1)
	return webhook{kind: Forged, id: id, record: r.ID, body: newNotice(id, deleted, r), step: i, forgery: st.forgery}
}

// signer makes the headers of webhooks, honest and forged.
type signer struct {
	verifier   *signature.Verifier
	key, wrong signature.Key
}

func newSigner(secret string) (s signer, err error) {
	if s.verifier, err = signature.Compile(Scheme()); err != nil {
		return signer{}, err
	}
	if s.key, err = signature.ParseKey(Scheme(), secret); err != nil {
		return signer{}, err
	}
	s.wrong, err = signature.ParseKey(Scheme(), secret+" but another")
	return s, err
}

func (s signer) header(w webhook, now time.Time) http.Header {
	key, body := s.key, w.body
	switch w.forgery {
	case wrongSecret:
		key = s.wrong
	case tampered:
		body = bytes.Replace(body, []byte(deleted), []byte(updated), 1)
	case stale:
		now = now.Add(-time.Hour)
	}
	h := s.verifier.Sign(key, body, w.id, now)
	switch w.forgery {
	case misplaced:
		h.Set(foreign, h.Get(Scheme().Header))
		fallthrough
	case unsigned:
		h.Del(Scheme().Header)
	}
	h.Set(HeaderDelivery, w.id)
	h.Set("Content-Type", "application/json")
	return h
}

// maxOpen bounds the webhooks that wait to be taken: a goroutine each.
const maxOpen = 100_000

// sender sends the webhooks of a run.
type sender struct {
	*Provider
	target string
	open   sync.WaitGroup // of webhooks that are neither answered nor given up
	room   chan struct{}  // has one for each of open
	line   chan struct{}  // has one for each that is on its way
}

func newSender(p *Provider, target string) *sender {
	room := p.cfg.Concurrency
	if p.cfg.Rate > 0 {
		room = max(room, maxOpen)
	}
	return &sender{Provider: p, target: target, room: make(chan struct{}, room), line: make(chan struct{}, p.cfg.Concurrency)}
}

// send begins to deliver webhooks, each as soon as there is room.
func (s *sender) send(ctx context.Context, ws ...webhook) {
	for _, w := range ws {
		w.due = time.Now()
		select {
		case s.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.open.Go(func() {
			s.deliver(ctx, w)
			<-s.room
		})
	}
}

// deliver sends a webhook until it is taken, refused or given up.
func (s *sender) deliver(ctx context.Context, w webhook) {
	delay := s.cfg.RetryMin
	for attempt := 1; ; attempt++ {
		d, retryAfter := s.attempt(ctx, w)
		d.Attempt = attempt
		again := retryable(d.Status) && attempt < s.cfg.MaxAttempts || w.must && !d.Taken()
		if again && w.kind != Forged && ctx.Err() == nil {
			s.write(d)
			_ = wait(ctx, max(delay, retryAfter)) // an attempt that is too late ends at once
			delay = min(2*delay, s.cfg.RetryMax)
			continue
		}
		d.GaveUp = !d.Taken() && w.kind != Forged
		s.write(d)
		if d.Taken() && w.twice {
			w.kind, w.twice = Duplicate, false
			s.held.hold(w, w.step+w.again)
		}
		return
	}
}

func (p *Provider) write(d Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.book.Deliveries = append(p.book.Deliveries, d)
}

// retryable tells whether an answer, or none, asks to be tried again.
func retryable(status int) bool {
	return status == 0 || status == http.StatusTooManyRequests || status >= 500
}

// attempt sends w once, signed anew.
func (s *sender) attempt(ctx context.Context, w webhook) (d Delivery, retryAfter time.Duration) {
	select {
	case s.line <- struct{}{}:
		defer func() { <-s.line }()
	case <-ctx.Done(): // the attempt ends at once
	}
	d = Delivery{Kind: w.kind, ID: w.id, RecordID: w.record, DueAt: w.due, SentAt: time.Now()}
	defer func() { d.AnsweredAt = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(w.body))
	if err != nil {
		return d, 0
	}
	req.Header = s.signer.header(w, d.SentAt)
	resp, err := s.client.Do(req)
	if err != nil {
		return d, 0
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status is the answer
	_ = resp.Body.Close()
	d.Status = resp.StatusCode
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		retryAfter = min(time.Duration(n)*time.Second, s.cfg.RetryMax)
	}
	return d, retryAfter
}
