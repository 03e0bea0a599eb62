package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	// askEvery is the mean time between two questions. Each wait is up to half
	// shorter or longer, so that programs don't leave a server at the same moment.
	askEvery = 2 * time.Second
	// patience is how long JetStream may be silent until the server is left, and how
	// long an answer is waited for, also while others are asked for.
	patience = 5 * time.Second
	// unready is how long it may be silent until the program isn't ready: what
	// leaving the server mends isn't worth sending all callers away.
	unready = 2 * patience
	// maxPatience bounds what patience doubles to with each server that is left
	// without an answer from the next: when all are silent it is of little use.
	maxPatience = time.Minute
)

// answers knows since when JetStream is silent on a connection, and has the
// connection leave a server that is cut off from the others for one that isn't.
//
// Such a server keeps its clients, and what they publish and pull gets no answer.
// What it says of itself tells little: a server that led a stream goes on
// as its leader for up to 20 s, and one that knows that nobody leads it describes
// it all the same. So what counts is the leader's word on when it heard of
// its replicas.
type answers struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	log  *slog.Logger
	left metric.Int64Counter

	mu    sync.Mutex // guards what follows
	heard time.Time  // when JetStream was last known to store what it is sent
	// unanswered is how many questions were asked since one was answered.
	unanswered int
}

func newAnswers(nc *nats.Conn, js jetstream.JetStream, log *slog.Logger) (*answers, error) {
	left, err := metrics.ServersLeft.Counter()
	if err != nil {
		return nil, err
	}
	return &answers{nc: nc, js: js, log: log, left: left, heard: time.Now()}, nil
}

// watch asks until ctx ends.
func (a *answers) watch(ctx context.Context) {
	var questions sync.WaitGroup
	defer questions.Wait()
	last := time.Now()
	stay := newStay(last)
	var reconnects uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(askEvery/2 + rand.N(askEvery)):
		}
		connected, n, now := a.nc.IsConnected(), a.nc.Stats().Reconnects, time.Now()
		if !connected || n != reconnects || now.Sub(last) > patience { // or this process stood still itself
			stay.begin(now)
			a.begin()
		}
		if reconnects, last = n, now; !connected { // the client looks for a server already
			continue
		}
		// One address may stand for several servers, so it is the server that says
		// whether there are others.
		silent, unanswered := a.silent()
		if stay.over(now, silent, unanswered) && a.nc.ConnectedClusterName() != "" && ctx.Err() == nil {
			a.leave(ctx, silent)
			stay.leave(now)
			continue
		}
		a.asked()
		questions.Go(func() {
			if heard, err := a.ask(ctx); err == nil {
				a.hear(heard)
			}
		})
	}
}

// stay is the time at one server, until it is left for its silence.
type stay struct {
	since time.Time
	wait  time.Duration // how long it may be silent
}

func newStay(now time.Time) *stay { return &stay{now, patience} }

// begin says that a server was reached, or that nobody asked it for long.
func (s *stay) begin(now time.Time) { s.since = now }

// leave says that the server is being left. The next one may be silent for longer.
func (s *stay) leave(now time.Time) { s.since, s.wait = now, min(2*s.wait, maxPatience) }

// over reports whether the server is to be left: it was silent for too long, by its
// own word or by two questions without an answer. One alone says little: a stream
// that elects its leader gives none.
func (s *stay) over(now time.Time, silent time.Duration, unanswered int) bool {
	if silent <= patience {
		s.wait = patience
	}
	return min(silent, now.Sub(s.since)) > s.wait && unanswered != 1
}

// leave moves the connection to the next address. Requests that wait end with an
// error at once, as they would in the end; what is published meanwhile goes to
// the next server, and subscriptions are made there again.
func (a *answers) leave(ctx context.Context, silent time.Duration) {
	server := a.nc.ConnectedServerName()
	if err := a.nc.ForceReconnect(); err != nil {
		return // it is closed
	}
	a.left.Add(ctx, 1)
	a.log.LogAttrs(ctx, slog.LevelWarn, "nats server left: no answer of jetstream",
		slog.String("server", server), slog.Duration("silent", silent.Round(time.Millisecond)))
}

// errLeaderless is why a stream that is described stores nothing.
var errLeaderless = errors.New("no leader that reaches its replicas")

// ask returns when the stream of triggers was known to store what it is sent.
func (a *answers) ask(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := a.js.Stream(ctx, topology.StreamRaw)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound): // it is about to be made
		return time.Now(), nil
	case err != nil:
		return time.Time{}, err
	}
	return majorityAt(stream.CachedInfo().Cluster, time.Now())
}

// majorityAt returns when a stream's leader had heard of so many replicas that
// they are a majority with itself, as it says now.
func majorityAt(cluster *jetstream.ClusterInfo, now time.Time) (time.Time, error) {
	switch {
	case cluster == nil: // a server without others
		return now, nil
	case cluster.Leader == "":
		return time.Time{}, errLeaderless
	}
	needed := (len(cluster.Replicas) + 1) / 2 // the leader is the one that is missing
	var ages []time.Duration
	for _, r := range cluster.Replicas {
		if !r.Offline {
			ages = append(ages, r.Active)
		}
	}
	switch {
	case needed == 0:
		return now, nil
	case len(ages) < needed:
		return time.Time{}, errLeaderless
	}
	slices.Sort(ages)
	return now.Add(-ages[needed-1]), nil
}

func (a *answers) asked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unanswered++
}

// begin says that a server was reached, which wasn't asked yet.
func (a *answers) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unanswered = 0
}

// hear takes an answer: that JetStream was known to store at a time.
func (a *answers) hear(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unanswered = 0
	if at.After(a.heard) {
		a.heard = at
	}
}

func (a *answers) silent() (time.Duration, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.heard), a.unanswered
}

// check says that JetStream is silent, or nil.
func (a *answers) check() error {
	if silent, _ := a.silent(); silent > unready {
		return fmt.Errorf("no answer of jetstream for %s", silent.Round(time.Second))
	}
	return nil
}
