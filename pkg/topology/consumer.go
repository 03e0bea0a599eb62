package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
)

// Stages of the pipeline, as metrics, subjects and durable names spell them.
const (
	StageEnrich  = "enrich"
	StageDeliver = "deliver"
	// StageVerify is the checks of the ingress, which no consumer serves. A replay
	// can begin there.
	StageVerify  = "verify"
	StageCollect = "collect"
)

// Delivery is how a stage's consumer hands out messages.
type Delivery struct {
	// AckWait is how long the server waits for an answer before it delivers
	// again.
	AckWait time.Duration
	// MaxAttempts is after how many attempts the stage gives a message up. The
	// server counts deliveries that were no attempts too, so its own limit is
	// far above: it is the last net for crashes and hangs, and must not fire
	// first.
	MaxAttempts int
}

// maxWaits is how many deliveries of a message may be no attempts. The stages let a
// message wait for a thousandth of its age at the least, so that one every second at
// first is enough for three months.
const maxWaits = 10_000

// maxAckPending bounds the messages in hand or waiting for their next attempt
// of one consumer. Delayed messages count, so it is well above any batch.
const maxAckPending = 20_000

// EnrichConsumer is the durable consumer of one source's triggers. Every
// source has its own, so that a sick API holds up nobody else.
func EnrichConsumer(source string, d Delivery) jetstream.ConsumerConfig {
	return consumer(EnrichDurable(source), "Enriches the triggers of "+source+".", d,
		event.PrefixRaw+"."+source+".>")
}

// EnrichDurable is the durable name of a source's enriching consumer.
func EnrichDurable(source string) string { return StageEnrich + "_" + source }

// DeliverConsumer is the durable consumer of one destination, which takes the
// enriched events of the given subjects.
func DeliverConsumer(destination string, subjects []string, d Delivery) jetstream.ConsumerConfig {
	return consumer(DeliverDurable(destination), "Delivers to "+destination+".", d, subjects...)
}

// DeliverDurable is the durable name of a destination's consumer.
func DeliverDurable(destination string) string { return StageDeliver + "_" + destination }

// MetadataWhen is the key of a destination's consumer's metadata that has the
// expression by which events are chosen, for whoever asks what became of one.
const MetadataWhen = "tercel-when"

// MetadataRedact is the key of a source's consumer's metadata that has the paths
// of what is not to be shown of its payloads.
const MetadataRedact = "tercel-redact"

// CollectConsumer is the durable consumer of the advisories, from which dead
// letters are made.
func CollectConsumer(d Delivery) jetstream.ConsumerConfig {
	return consumer(StageCollect+"_dead_letters", "Makes dead letters of advisories.", d)
}

// TeamConsumer is the durable consumer of a downstream team, which takes the
// enriched events of the given subjects. What the team never acknowledges is
// delivered to it again until the stream lets it go.
func TeamConsumer(team string, subjects []string, ackWait time.Duration) jetstream.ConsumerConfig {
	c := consumer(TeamDurable(team), "Read by the team "+team+".", Delivery{AckWait: ackWait}, subjects...)
	c.MaxDeliver = -1
	return c
}

// TeamDurable is the durable name of a team's consumer.
func TeamDurable(team string) string { return "team_" + team }

func consumer(name, about string, d Delivery, filters ...string) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: name, Description: about,
		AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: d.AckWait, MaxDeliver: d.MaxAttempts + maxWaits, MaxAckPending: maxAckPending,
	}
	switch len(filters) {
	case 0:
	case 1:
		c.FilterSubject = filters[0]
	default:
		c.FilterSubjects = filters
	}
	return c
}

// Stage tells which stage a durable consumer belongs to and the source or
// destination that it serves; ok is false for a consumer that is not Tercel's.
func Stage(durable string) (stage, name string, ok bool) {
	for _, s := range []string{StageEnrich, StageDeliver, StageCollect} {
		if len(durable) > len(s)+1 && durable[:len(s)+1] == s+"_" {
			return s, durable[len(s)+1:], true
		}
	}
	return "", "", false
}

// Takes reports whether a consumer's filters let a subject through.
func Takes(c jetstream.ConsumerConfig, subject string) bool {
	return slices.ContainsFunc(filtersOf(c), func(f string) bool { return event.Match(f, subject) })
}

// filtersOf are the subjects that a consumer takes, whatever way they are set.
func filtersOf(c jetstream.ConsumerConfig) []string {
	switch {
	case c.FilterSubject != "":
		return []string{c.FilterSubject}
	case len(c.FilterSubjects) > 0:
		return c.FilterSubjects
	default:
		return []string{">"}
	}
}

// LastFor returns the sequence of the last message in stream that a consumer's
// filters let through, or 0. Compared with the consumer's ack floor it shows
// one that stands still, which may have nothing pending by its own word.
func LastFor(ctx context.Context, stream jetstream.Stream, c jetstream.ConsumerConfig) (uint64, error) {
	var last uint64
	for _, f := range filtersOf(c) {
		m, err := stream.GetLastMsgForSubject(ctx, f)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("last message of %s: %w", f, err)
		}
		last = max(last, m.Sequence)
	}
	return last, nil
}

// FirstFor returns when the first message in stream behind the sequence floor was
// stored that a consumer's filters let through, or the zero time. Behind the
// consumer's ack floor it is the oldest that isn't acknowledged.
func FirstFor(ctx context.Context, stream jetstream.Stream, c jetstream.ConsumerConfig, floor uint64) (time.Time, error) {
	var first time.Time
	for _, f := range filtersOf(c) {
		m, err := stream.GetMsg(ctx, floor+1, jetstream.WithGetMsgSubject(f))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it has aged out meanwhile
		}
		if err != nil {
			return first, fmt.Errorf("first message of %s: %w", f, err)
		}
		if first.IsZero() || m.Time.Before(first) {
			first = m.Time
		}
	}
	return first, nil
}
