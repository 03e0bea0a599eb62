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
	// Ahead is how many messages the server sends ahead of the one in hand: few,
	// where they are large. Defaults to 500.
	Ahead int
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
	end, err := lastOf(ctx, stream, o.Subjects)
	if err != nil || end.Sequence == 0 || end.Sequence < o.FromSequence || end.Time.Before(o.FromTime) {
		return err
	}
	cons, err := stream.OrderedConsumer(ctx, o.consumer())
	if err != nil {
		return err
	}
	// In a cluster, the first pull may go out before the consumer's server hears
	// of it, and be lost; missing heartbeats tell the client.
	pull := []jetstream.PullMessagesOpt{jetstream.PullHeartbeat(scanHeartbeat)}
	if o.Ahead > 0 {
		pull = append(pull, jetstream.PullMaxMessages(o.Ahead))
	}
	messages, err := cons.Messages(pull...)
	if err != nil {
		return err
	}
	defer func() {
		messages.Stop()
		forget(ctx, stream, cons)
	}()
	if info := cons.CachedInfo(); info != nil && info.NumPending == 0 && removed(ctx, stream, end.Sequence) {
		return nil // there is nothing from where it begins
	}
	for {
		m, err := scanNext(ctx, messages)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			// What was still to come may have been removed meanwhile.
			if info, infoErr := cons.Info(ctx); infoErr == nil && info.NumPending == 0 && removed(ctx, stream, end.Sequence) {
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
		if meta.Sequence.Stream > end.Sequence {
			return nil
		}
		more := yield(Message{
			Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Stream: meta.Stream,
			Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Attempt: 1,
		}, nil)
		if !more || meta.Sequence.Stream == end.Sequence {
			return nil
		}
		// The replica that is read from may only be a moment behind the others.
		if meta.NumPending == 0 && removed(ctx, stream, end.Sequence) {
			return nil
		}
	}
}

func (o ScanOptions) consumer() jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects: o.Subjects, HeadersOnly: o.HeadersOnly, DeliverPolicy: jetstream.DeliverAllPolicy,
		InactiveThreshold: time.Minute, MaxResetAttempts: scanResets,
	}
	switch {
	case o.FromSequence > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, o.FromSequence
	case !o.FromTime.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &o.FromTime
	}
	return cfg
}

// forget removes a scan's consumer, which would otherwise stay for a minute: a
// stream has a thousand by default, and many scans would keep others out. Where
// the user may not delete consumers, it ends by itself.
func forget(ctx context.Context, stream jetstream.Stream, cons jetstream.Consumer) {
	info := cons.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = stream.DeleteConsumer(ctx, info.Name)
}

// lastOf returns the last message of the given subjects by the word of the
// stream's leader, which has all that was acknowledged; its sequence is 0 if
// there is none. A replica, which the messages themselves may be read from, can
// be behind, and would end a scan too early.
func lastOf(ctx context.Context, stream jetstream.Stream, subjects []string) (last jetstream.RawStreamMsg, err error) {
	if len(subjects) == 0 {
		subjects = []string{">"}
	}
	for _, subject := range subjects {
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) && subject == ">" {
			m, err = lastSequence(ctx, stream)
		}
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return last, fmt.Errorf("last message of %s: %w", subject, err)
		}
		if m.Sequence > last.Sequence {
			last = *m
		}
	}
	return last, nil
}

// lastSequence is where a stream ends whose last message was removed: asked for
// the last message of everything, the server looks there alone.
func lastSequence(ctx context.Context, stream jetstream.Stream) (*jetstream.RawStreamMsg, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.State.Msgs == 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Sequence: info.State.LastSeq, Time: info.State.LastTime}, nil
}

// removed reports whether a message has left its stream.
func removed(ctx context.Context, stream jetstream.Stream, sequence uint64) bool {
	_, err := stream.GetMsg(ctx, sequence)
	return errors.Is(err, jetstream.ErrMsgNotFound)
}

// scanWait bounds the wait for the next message of a scan. The stream is known
// to hold it, so it is the server that is waited for.
const scanWait = 10 * time.Second

// scanResets is how often in a row the client tries to read on after an
// interruption: within a few seconds, in which a cluster has another leader. By
// itself it would try for ever where the stream is gone, and heed no context.
const scanResets = 3

// scanHeartbeat is a small part of scanWait: after two that are missing the
// client begins again where it was.
const scanHeartbeat = time.Second

func scanNext(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}
