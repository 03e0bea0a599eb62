// Package intake keeps what became of the requests that the ingress answered:
// how many of each source had which outcome, minute by minute. Whoever finds a
// gap later can tell from it whether requests were refused, and whether anybody
// was there to take them.
//
// A replica stores one small message a minute in TERCEL_INTAKE, whether there
// were requests or not: its absence is evidence too. A crash loses what was
// counted since the last one, and that minute counts as one without a replica.
package intake

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Every is the time between two messages of a replica.
const Every = time.Minute

// flushTimeout bounds storing what was counted.
const flushTimeout = 5 * time.Second

// Counts are numbers of requests by outcome.
type Counts map[string]int64

// Span is what one replica answered in a stretch of time in which it took
// webhooks in.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Sources has what was counted, without zeros.
	Sources map[string]Counts `json:"sources,omitempty"`
}

type label struct{ source, outcome string }

// Log counts the requests of one replica. Counting is safe for concurrent use.
type Log struct {
	js     jetstream.JetStream
	now    func() time.Time
	counts map[label]*atomic.Int64

	id string // of the log, with which those of its messages begin

	mu     sync.Mutex // guards what follows, and has flushes follow each other
	from   time.Time
	taken  int   // spans that were made
	unsure *Span // the last one, while it may be stored or not
}

// New returns a log for requests of the given sources and outcomes, which
// begins now.
func New(js jetstream.JetStream, now func() time.Time, sources, outcomes []string) *Log {
	l := &Log{js: js, now: now, counts: map[label]*atomic.Int64{}, id: nuid.Next(), from: now()}
	for _, s := range sources {
		for _, o := range outcomes {
			l.counts[label{s, o}] = new(atomic.Int64)
		}
	}
	return l
}

// Count counts one request. What the log wasn't made for isn't counted.
func (l *Log) Count(source, outcome string) {
	if n := l.counts[label{source, outcome}]; n != nil {
		n.Add(1)
	}
}

// Flush stores what was counted since the last time. After an error the next
// call has it too. Whether it was stored all the same isn't known then, so it
// goes again as it was, and inside the dedup window counts once.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for more := true; more; {
		more = l.unsure != nil // what was counted since then goes after it
		if !more {
			l.unsure = l.take()
		}
		if err := l.store(ctx, *l.unsure); err != nil {
			return fmt.Errorf("note the outcomes of requests: %w", err)
		}
		l.unsure = nil
	}
	return nil
}

// take begins anew to count and returns what was.
func (l *Log) take() *Span {
	s := Span{From: l.from, To: l.now(), Sources: map[string]Counts{}}
	for k, n := range l.counts {
		if v := n.Swap(0); v > 0 {
			if s.Sources[k.source] == nil {
				s.Sources[k.source] = Counts{}
			}
			s.Sources[k.source][k.outcome] = v
		}
	}
	l.from = s.To
	l.taken++
	return &s
}

func (l *Log) store(ctx context.Context, s Span) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = l.js.Publish(ctx, topology.SubjectIntake, data, jetstream.WithMsgID(fmt.Sprintf("%s:%d", l.id, l.taken)))
	return err
}

// History is what all replicas answered in a stretch of time.
type History struct {
	spans []Span // by their beginning
	until time.Time
}

// slack is how far the clocks of replicas and servers may be apart.
const slack = time.Minute

// Read returns what was stored of the time since from, and of a while before
// it. It costs one message for each minute and replica.
func Read(ctx context.Context, js jetstream.JetStream, from, now time.Time) (History, error) {
	h := History{until: now}
	for m, err := range consume.Scan(ctx, js, consume.ScanOptions{Stream: topology.StreamIntake, FromTime: from.Add(-slack)}) {
		if err != nil {
			return History{}, fmt.Errorf("outcomes of requests: %w", err)
		}
		if s, ok := decode(m.Data); ok {
			h.spans = append(h.spans, s)
		}
	}
	slices.SortFunc(h.spans, func(a, b Span) int { return a.From.Compare(b.From) })
	return h, nil
}

// Up reports whether a replica took webhooks in at t. It isn't known of times
// before the first message that is still there, nor of those so young that
// their message may not have been stored.
func (h History) Up(t time.Time) (up, known bool) {
	for _, s := range h.spans {
		if !t.Before(s.From) && !t.After(s.To) {
			return true, true
		}
	}
	before := len(h.spans) == 0 || t.Before(h.spans[0].From)
	return false, !before && h.until.Sub(t) > Every+slack
}

// Counts sums up the spans of a source's requests that touch the time from
// from to to.
func (h History) Counts(source string, from, to time.Time) Counts {
	sum := Counts{}
	for _, s := range h.spans {
		if s.To.Before(from) || s.From.After(to) {
			continue
		}
		for outcome, n := range s.Sources[source] {
			sum[outcome] += n
		}
	}
	return sum
}

// taken are the outcomes of requests that were not refused.
var taken = map[string]bool{"accepted": true, "duplicate": true, "handshake": true, "empty": true}

// Refused returns the counts of requests that were refused, or could not be
// stored.
func (c Counts) Refused() Counts {
	refused := Counts{}
	for outcome, n := range c {
		if !taken[outcome] {
			refused[outcome] = n
		}
	}
	return refused
}

// Accepted is the number of requests that held events, new or known.
func (c Counts) Accepted() int64 { return c["accepted"] + c["duplicate"] }
