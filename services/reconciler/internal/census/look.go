package census

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// look is the server at one moment.
type look struct {
	at        time.Time
	store     store
	streams   []stream
	consumers []consumer
	untold    int // consumers of others that are not among them
}

// store is what the account takes of the disk, and may take: 0 stands for no
// limit.
type store struct{ size, limit int64 }

type stream struct {
	name           string
	messages, size uint64
	limit          int64 // 0 or less stands for none
	sequence       uint64
	oldest         time.Time // zero while it is empty
	replicas       int
	behind         int  // of the replicas
	leaderless     bool // nothing is known but the replicas
}

type consumer struct {
	stream, stage, name   string
	pending, behind       uint64
	floor                 uint64
	unacknowledged, pulls int
	redelivered           int
	oldest                time.Time // stored; zero if all is acknowledged
	paused                bool
}

// maxForeign bounds the consumers of other teams that are told one by one: they
// may make as many as the server lets them, and each is a dozen series.
const maxForeign = 100

// downstream is the stage of other teams' consumers.
const downstream = "downstream"

// patience is how long one stream is asked. None answers for one that has no
// leader, and the others are to be told all the same.
const patience = 3 * time.Second

func read(ctx context.Context, js jetstream.JetStream, names []string, replicas int) (*look, error) {
	l := &look{}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	account, err := js.AccountInfo(asking)
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	l.store = store{int64(account.Store), account.Limits.MaxStore} //nolint:gosec // it fits: it is a disk
	for _, name := range names {
		if err := l.stream(ctx, js, name, replicas); err != nil {
			return nil, err
		}
	}
	l.limit()
	l.at = time.Now()
	return l, nil
}

// worked are the streams whose consumers are told. Those of the others are ours,
// and only there while somebody reads.
var worked = []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamAdvisories}

// stream looks at one stream that is to have so many replicas.
func (l *look) stream(ctx context.Context, js jetstream.JetStream, name string, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound): // the audit finds that
		return nil
	case errors.Is(err, context.DeadlineExceeded) && replicas > 1:
		l.streams = append(l.streams, stream{name: name, leaderless: true, replicas: replicas, behind: replicas})
		return nil
	case err != nil:
		return fmt.Errorf("stream %s: %w", name, err)
	}
	info := s.CachedInfo()
	st := stream{
		name: name, messages: info.State.Msgs, size: info.State.Bytes, limit: info.Config.MaxBytes, sequence: info.State.LastSeq,
		replicas: info.Config.Replicas, behind: behind(info),
	}
	if st.messages > 0 { // the server gives a time of its own otherwise
		st.oldest = info.State.FirstTime
	}
	l.streams = append(l.streams, st)
	if info.State.Consumers == 0 || !slices.Contains(worked, name) {
		return nil
	}
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Durable == "" {
			continue // somebody who reads, and is gone soon
		}
		k, err := consumerOf(ctx, s, c)
		if replicas > 1 && errors.Is(err, context.DeadlineExceeded) {
			return nil // it is losing its leader: the others' figures are due
		}
		if err != nil {
			return fmt.Errorf("consumer %s of %s: %w", c.Name, name, err)
		}
		l.consumers = append(l.consumers, k)
	}
	if err := list.Err(); err != nil && (replicas < 2 || !errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("consumers of %s: %w", name, err)
	}
	return nil
}

// behind counts the replicas that would not have what the leader has, if that
// went now. A single server is not asked for any.
func behind(info *jetstream.StreamInfo) int {
	if info.Config.Replicas < 2 || info.Cluster == nil {
		return 0
	}
	if info.Cluster.Leader == "" {
		return info.Config.Replicas
	}
	well := 1
	for _, r := range info.Cluster.Replicas {
		if r.Current && !r.Offline {
			well++
		}
	}
	return max(info.Config.Replicas-well, 0)
}

func consumerOf(ctx context.Context, s jetstream.Stream, c *jetstream.ConsumerInfo) (consumer, error) {
	k := consumer{
		stream: c.Stream, stage: downstream, name: c.Name, pending: c.NumPending, floor: c.AckFloor.Stream,
		unacknowledged: c.NumAckPending, pulls: c.NumWaiting, redelivered: c.NumRedelivered, paused: c.Paused,
	}
	if stage, name, ok := topology.Stage(c.Name); ok {
		k.stage, k.name = stage, name
	}
	if c.Config.AckPolicy == jetstream.AckNonePolicy {
		return k, nil // it has no floor
	}
	last, err := topology.LastFor(ctx, s, c.Config)
	if err != nil || last <= c.AckFloor.Stream {
		return k, err
	}
	k.behind = last - c.AckFloor.Stream
	k.oldest, err = topology.FirstFor(ctx, s, c.Config, c.AckFloor.Stream)
	return k, err
}

// limit leaves out the consumers of other teams beyond the most, always the
// same ones.
func (l *look) limit() {
	slices.SortFunc(l.consumers, func(a, b consumer) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.name, b.name))
	})
	foreign := 0
	l.consumers = slices.DeleteFunc(l.consumers, func(k consumer) bool {
		if k.stage != downstream {
			return false
		}
		foreign++
		return foreign > maxForeign
	})
	l.untold = max(foreign-maxForeign, 0)
}
