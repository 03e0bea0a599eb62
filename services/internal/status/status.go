// Package status looks at the pipeline as its server sees it: what streams hold,
// how far each stage is, and how far each resource has been reconciled. It works
// whichever process runs the services.
package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Status is the pipeline at one moment.
type Status struct {
	Streams     []Stream
	Stages      []Stage
	DeadLetters uint64
	Accounts    []Accounts
}

// Accounts are those that a bucket has for a source. Those in a file or folder
// are only known where that is, to "tercel check".
type Accounts struct {
	Source   string
	Bucket   string
	Accounts int
}

// Stream is what one stream holds.
type Stream struct {
	Name     string
	Messages uint64
	Bytes    uint64
	LastSeq  uint64
	First    time.Time
	Last     time.Time
	Replicas int
}

// Stage is one durable consumer.
type Stage struct {
	Stage  string
	Name   string
	Stream string
	// Pending messages wait, InHand are being worked on or between two attempts.
	Pending     uint64
	InHand      int
	Redelivered int
	// Behind counts sequences from the last message that it should take back to the
	// first that is not acknowledged: it shows a consumer that stands still although
	// nothing is pending.
	Behind uint64
	// Acknowledged counts the deliveries up to which all are acknowledged.
	Acknowledged uint64
	Workers      int
	LastAck      time.Time
	PausedUntil  time.Time
}

// Read looks at everything. It costs a request for each stream, consumer and
// subject that a consumer filters by.
func Read(ctx context.Context, js jetstream.JetStream) (Status, error) {
	s := Status{}
	for _, stream := range slices.Backward(topology.Streams(topology.DefaultConfig())) { // in the order of an event's way
		if err := s.readStream(ctx, js, stream.Name); err != nil {
			return Status{}, err
		}
	}
	var err error
	s.Accounts, err = accounts(ctx, js)
	return s, err
}

func (s *Status) readStream(ctx context.Context, js jetstream.JetStream, name string) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("stream %s: %w; is this the server of a Tercel pipeline?", name, err)
	}
	info := stream.CachedInfo()
	st := Stream{
		Name: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, LastSeq: info.State.LastSeq, Replicas: info.Config.Replicas,
	}
	if st.Messages > 0 { // the server gives a time of its own otherwise
		st.First, st.Last = info.State.FirstTime, info.State.LastTime
	}
	s.Streams = append(s.Streams, st)
	if name == topology.StreamDLQ {
		s.DeadLetters = info.State.Msgs
	}
	list := stream.ListConsumers(ctx)
	for c := range list.Info() {
		stage, ok, err := stageOf(ctx, stream, c)
		if err != nil {
			return err
		}
		if ok {
			s.Stages = append(s.Stages, stage)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("consumers of %s: %w", name, err)
	}
	return nil
}

func stageOf(ctx context.Context, stream jetstream.Stream, c *jetstream.ConsumerInfo) (Stage, bool, error) {
	stage, name, ok := topology.Stage(c.Name)
	if !ok {
		return Stage{}, false, nil
	}
	last, err := topology.LastFor(ctx, stream, c.Config)
	if err != nil {
		return Stage{}, false, fmt.Errorf("consumer %s: %w", c.Name, err)
	}
	st := Stage{
		Stage: stage, Name: name, Stream: c.Stream, Pending: c.NumPending, InHand: c.NumAckPending, Redelivered: c.NumRedelivered,
		Behind: last - min(last, c.AckFloor.Stream), Acknowledged: c.AckFloor.Consumer, Workers: c.NumWaiting,
	}
	if c.AckFloor.Last != nil {
		st.LastAck = *c.AckFloor.Last
	}
	if c.Paused {
		st.PausedUntil = time.Now().Add(c.PauseRemaining)
	}
	return st, true, nil
}

// accounts counts the accounts in buckets.
func accounts(ctx context.Context, js jetstream.JetStream) ([]Accounts, error) {
	buckets, err := topology.AccountsBuckets(ctx, js)
	if err != nil {
		return nil, err
	}
	all := []Accounts{}
	for _, bucket := range buckets {
		kv, err := js.KeyValue(ctx, bucket)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", bucket, err)
		}
		keys, err := kv.Keys(ctx)
		if err == nil || errors.Is(err, jetstream.ErrNoKeysFound) {
			err = ctx.Err() // it leaves out what it had no time for, and says nothing
		}
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", bucket, err)
		}
		counts := map[string]int{}
		for _, key := range keys {
			source, _, _ := strings.Cut(key, ".")
			counts[source]++
		}
		for _, source := range slices.Sorted(maps.Keys(counts)) {
			all = append(all, Accounts{Source: source, Bucket: bucket, Accounts: counts[source]})
		}
	}
	return all, nil
}
