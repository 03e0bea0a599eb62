package consume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ScanOptions say what [Scan] reads.
type ScanOptions struct {
	// Stream is the stream's name.
	Stream string
	// Subjects are the filters; none means everything.
	Subjects []string
	// HeadersOnly leaves the bodies on the server.
	HeadersOnly bool
	// FromSequence is the first sequence to read. Defaults to the first stored.
	FromSequence uint64
	// FromTime, if set, begins with the first message stored at or after it.
	FromTime time.Time
}

// Scan yields what a stream holds, in order, up to its last message at the
// time of the call, and changes nothing: there is no durable consumer and
// nothing to acknowledge. It costs the server one pass over the stream's index
// (with HeadersOnly about 50,000 messages a second). An error ends it.
func Scan(ctx context.Context, js jetstream.JetStream, o ScanOptions) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		if err := scan(ctx, js, o, yield); err != nil {
			yield(Message{}, fmt.Errorf("read %s: %w", o.Stream, err))
		}
	}
}

func scan(ctx context.Context, js jetstream.JetStream, o ScanOptions, yield func(Message, error) bool) error {
	stream, err := js.Stream(ctx, o.Stream)
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 || o.FromSequence > last {
		return nil
	}
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects: o.Subjects, HeadersOnly: o.HeadersOnly, DeliverPolicy: jetstream.DeliverAllPolicy,
		InactiveThreshold: time.Minute,
	}
	switch {
	case o.FromSequence > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, o.FromSequence
	case !o.FromTime.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &o.FromTime
	}
	cons, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return err
	}
	if cons.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := cons.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := scanNext(ctx, messages)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			// What was still to come may have been removed meanwhile.
			if info, infoErr := cons.Info(ctx); infoErr == nil && info.NumPending == 0 {
				return nil
			}
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream > last {
			return nil
		}
		more := yield(Message{
			Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Stream: meta.Stream,
			Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Attempt: 1,
		}, nil)
		if !more || meta.NumPending == 0 || meta.Sequence.Stream == last {
			return nil
		}
	}
}

// scanWait bounds the wait for the next message of a scan. The stream is known
// to hold it, so it is the server that is waited for.
const scanWait = 10 * time.Second

func scanNext(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}
