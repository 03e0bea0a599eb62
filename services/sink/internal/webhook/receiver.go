// Package webhook is the destination that sends events to an HTTP server, each
// as a webhook after the Standard Webhooks specification.
//
// What an answer means is told at pipeline.HTTP. An answer, or a failure to get
// one, that says nothing of the event is an outage: from then on nothing is sent,
// and events are postponed, until the event that met it, the probe, is taken.
//
// An event can look like an outage to a server that always answers so to that
// event alone, or breaks off each time. So that it can't stop the others for ever,
// a probe that was sent several times in vain is an event like the others again.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// probeTries is after how many tries a probe is no longer one, and quietTries
// where it was throttled or had no answer, which is seldom an event's fault.
const (
	probeTries = 5
	quietTries = 30
)

// Receiver is a server that takes webhooks. It is opened and closed many times,
// and remembers in between what it found. It is safe for concurrent use.
type Receiver struct {
	cfg     pipeline.HTTP
	retry   consume.Config
	url     *url.URL
	signer  *signature.Verifier
	keys    []signature.Key
	shown   *strings.Replacer // takes secrets out of what the server answers
	longest int               // of those secrets, in bytes
	http    *http.Client
	turns   *rate.Limiter
	slots   chan struct{} // as many as requests may be in flight
	metrics instruments

	mu sync.Mutex // guards what follows
	// outage is why nothing is sent, or nil.
	outage error
	// probe is the event that met the outage, or nil: for a server that wants no
	// more events none is sent to find out.
	probe *delivery.Item
	// tries counts the requests with probe that came to the server.
	tries int
	// suspect is the webhook-id of an event whose answers are its own.
	suspect string
	// doubtful are the webhook-ids of events that failed in a row and may have
	// met an outage.
	doubtful map[string]struct{}
	// done are the probes that were taken, and when, until they come again.
	done map[probed]time.Time
	// waiting are the events that wait for their next try, by record.
	waiting map[string]line
	swept   time.Time // when both were last rid of what nothing asks for
}

// probed is a probe that was taken. Its sequence alone would be another event's too
// once the stream was made anew.
type probed struct {
	sequence uint64
	id       string // the webhook-id
}

// New returns the receiver that cfg describes, whose defaults are filled in.
// Retry is how the loop that calls it retries.
func New(name string, cfg pipeline.HTTP, retry consume.Config) (*Receiver, error) {
	r := &Receiver{
		cfg: cfg, retry: retry, turns: egress.Limiter(cfg.Rate.Requests, cfg.Rate.Per), slots: make(chan struct{}, cfg.Concurrency),
		doubtful: map[string]struct{}{}, done: map[probed]time.Time{}, swept: time.Now(), waiting: map[string]line{},
	}
	var err error
	if r.url, err = url.Parse(cfg.URL); err != nil || r.url.Hostname() == "" {
		return nil, errors.New("http.url: want a URL") // its text may hold a secret
	}
	scheme := signature.StandardWebhooks()
	if r.signer, err = signature.Compile(scheme); err != nil {
		return nil, err
	}
	var secrets []string
	for i, s := range cfg.Secrets {
		key, err := signature.ParseKey(scheme, s.Reveal())
		if err != nil {
			return nil, fmt.Errorf("http.secrets[%d]: %w", i, err)
		}
		r.keys, secrets = append(r.keys, key), append(secrets, s.Reveal(), "[redacted]")
	}
	for _, s := range cfg.Headers {
		secrets = append(secrets, s.Reveal(), "[redacted]")
		if _, credential, ok := strings.Cut(s.Reveal(), " "); ok && credential != "" { // behind Bearer or Basic
			secrets = append(secrets, credential, "[redacted]")
		}
	}
	for _, s := range secrets {
		r.longest = max(r.longest, len(s))
	}
	r.shown = strings.NewReplacer(secrets...)
	if r.metrics, err = newInstruments(name); err != nil {
		return nil, err
	}
	r.http = &http.Client{
		Transport: egress.Transport(egress.Config{AllowPrivate: cfg.AllowPrivate, Connections: cfg.Concurrency}),
		// The signature, the headers and the event are for this server alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// Batch is how many events fit into half of the time that a batch may take,
// even if each takes as long as it may.
func (r *Receiver) Batch() int {
	half := r.retry.Timeout / 2
	n := r.cfg.Concurrency * max(1, int(half/r.cfg.Timeout))
	if r.cfg.Rate.Requests > 0 {
		n = min(n, int(float64(r.cfg.Rate.Requests)*half.Seconds()/r.cfg.Rate.Per.Seconds()))
	}
	return min(max(1, n), r.retry.Batch)
}

// Open finds out whether events may be sent: the probe is taken, or, without
// one, the server can be connected to. The error has the time that the server
// asked for, see package fault; until the next Open all that is written is held
// back for it. After [delivery.ErrUnwanted] events are sent
// again: whoever opens it sees to it that none comes before it is wanted.
func (r *Receiver) Open(ctx context.Context) error {
	r.mu.Lock()
	probe := r.probe
	r.mu.Unlock()
	if probe == nil {
		err := r.connect(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recovered()
		r.outage = err
		return err
	}
	f := r.send(ctx, *probe)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.kind == outage || f.kind == doubtful {
		if f.kind == doubtful || f.status > 0 { // else it never came to the server
			r.tries++
		}
		enough := probeTries
		if f.status == 0 || f.status == http.StatusTooManyRequests {
			enough = quietTries
		}
		if r.tries < enough {
			return f.err
		}
		r.suspect = webhookID(*probe)
	}
	switch f.kind {
	case unsent:
		return f.err
	case gone:
		r.outage, r.probe = f.err, nil
		return f.err
	case taken:
		r.done[probed{probe.Sequence, webhookID(*probe)}] = time.Now()
		_ = r.lineUp(*probe, nil)
	}
	r.recovered()
	return nil
}

// recovered ends an outage. The caller holds mu.
func (r *Receiver) recovered() {
	r.outage, r.probe, r.tries = nil, nil, 0
	clear(r.doubtful)
}

// connect tells whether the server is there. Nothing is sent: there is no
// request that would have no effect with every receiver.
func (r *Receiver) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	port := r.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[r.url.Scheme]
	}
	transport, ok := r.http.Transport.(*http.Transport)
	if !ok {
		return nil
	}
	conn, err := transport.DialContext(ctx, "tcp", net.JoinHostPort(r.url.Hostname(), port))
	if err != nil {
		return notConnected(ctx, err)
	}
	return conn.Close()
}

// Close drops the connections that are kept for the next request.
func (r *Receiver) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// Write sends items and returns one result for each, in their order.
func (r *Receiver) Write(ctx context.Context, items []delivery.Item) []delivery.Result {
	r.sweep()
	results := make([]delivery.Result, len(items))
	lanes := r.lanes(items)
	feed := make(chan []int, len(lanes))
	for _, lane := range lanes {
		feed <- lane
	}
	close(feed)
	var workers sync.WaitGroup
	for range min(r.cfg.Concurrency, len(lanes)) {
		workers.Go(func() {
			for lane := range feed {
				r.lane(ctx, items, lane, results)
			}
		})
	}
	workers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range results { // what the server said of one event is not what is out
		results[i].Outage = r.outage != nil && fault.IsPostponed(results[i].Err)
	}
	return results
}

// lane sends the items at the given places one after another.
func (r *Receiver) lane(ctx context.Context, items []delivery.Item, places []int, results []delivery.Result) {
	for _, i := range places {
		it := items[i]
		if results[i].Duplicate = r.wasProbe(it); results[i].Duplicate {
			continue
		}
		if results[i].Err = r.holdsBack(it); results[i].Err == nil {
			results[i].Err = r.note(it, r.send(ctx, it))
		}
	}
}

// wasProbe reports whether it was sent as a probe and taken. It was never
// acknowledged, so it comes once more.
func (r *Receiver) wasProbe(it delivery.Item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := probed{it.Sequence, webhookID(it)}
	_, was := r.done[p]
	delete(r.done, p)
	return was
}

// holdsBack returns why it is not sent now, or nil.
func (r *Receiver) holdsBack(it delivery.Item) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outage != nil {
		return r.lineUp(it, postponed(fmt.Errorf("not sent: %w", r.outage), r.retry.RetryMin))
	}
	if err := r.queued(it); err != nil {
		return r.lineUp(it, err)
	}
	return nil
}

// note draws the conclusions from what became of it.
func (r *Receiver) note(it delivery.Item, f finding) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := webhookID(it)
	switch f.kind {
	case taken, refused:
		clear(r.doubtful)
	case unsent:
		f.err = postponed(f.err, r.retry.RetryMin)
	case gone:
		f.err = postponed(f.err, r.retry.RetryMin)
		r.outage, r.probe = f.err, nil
	case doubtful:
		if r.doubtful[id] = struct{}{}; len(r.doubtful) >= doubtfulInARow {
			r.begin(it, &f)
		}
	case outage:
		if id != r.suspect {
			r.begin(it, &f)
		} else { // without the mark of a delay: an attempt like others
			f.err = fault.WithDetail(errors.New(f.err.Error()), fault.Detail(f.err))
		}
	}
	return r.lineUp(it, f.err)
}

// begin begins an outage with what it met, unless there is one.
func (r *Receiver) begin(it delivery.Item, f *finding) {
	f.err = postponed(f.err, r.retry.RetryMin)
	if r.outage == nil {
		r.outage, r.probe, r.tries = f.err, &it, 0
	}
}

// postponed marks err, with the delay that it has or else the given one.
func postponed(err error, delay time.Duration) error {
	if asked, ok := fault.Delay(err); ok {
		delay = max(delay, asked)
	}
	return fault.Postpone(err, delay)
}
