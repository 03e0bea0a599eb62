package topology

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// UntilResumed is how long a pause lasts that ends by hand: for longer than any
// stream keeps messages.
const UntilResumed = 100 * 365 * 24 * time.Hour

// PauseDestination has the server hand out no more events for a destination, to
// no sink, until [ResumeDestination]. Those in hand are worked on to their end.
// The error wraps jetstream.ErrConsumerNotFound where no sink has served it yet.
func PauseDestination(ctx context.Context, js jetstream.JetStream, destination string) error {
	_, err := js.PauseConsumer(ctx, StreamEnriched, DeliverDurable(destination), time.Now().Add(UntilResumed))
	if err != nil {
		return fmt.Errorf("pause destination %s: %w", destination, err)
	}
	return nil
}

// ResumeDestination ends a pause. The error is as for [PauseDestination].
func ResumeDestination(ctx context.Context, js jetstream.JetStream, destination string) error {
	if _, err := js.ResumeConsumer(ctx, StreamEnriched, DeliverDurable(destination)); err != nil {
		return fmt.Errorf("resume destination %s: %w", destination, err)
	}
	return nil
}

// PauseSource has the server hand out no more triggers of a source, to no
// enricher, until [ResumeSource]. Those in hand are worked on to their end. The
// error wraps jetstream.ErrConsumerNotFound where no enricher has served it yet.
func PauseSource(ctx context.Context, js jetstream.JetStream, source string) error {
	if _, err := js.PauseConsumer(ctx, StreamRaw, EnrichDurable(source), time.Now().Add(UntilResumed)); err != nil {
		return fmt.Errorf("pause source %s: %w", source, err)
	}
	return nil
}

// ResumeSource ends a pause, whoever made it. The error is as for
// [PauseSource].
func ResumeSource(ctx context.Context, js jetstream.JetStream, source string) error {
	if _, err := js.ResumeConsumer(ctx, StreamRaw, EnrichDurable(source)); err != nil {
		return fmt.Errorf("resume source %s: %w", source, err)
	}
	return nil
}

// PausedByHand reports whether a consumer is paused until an operator resumes
// it, rather than until a time that somebody has named.
func PausedByHand(info *jetstream.ConsumerInfo) bool {
	return info.Paused && info.PauseRemaining > UntilResumed/2
}
