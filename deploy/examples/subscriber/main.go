// Subscriber is a program of a downstream team: it keeps the newest state of
// each record of one source, from Tercel's enriched events. Take it as the
// beginning of your own.
//
//   - It reads TERCEL_ENRICHED by a durable consumer of its own, so that it goes
//     on where it was after a restart, and no other team feels it.
//   - Events come at least once, and in no particular order. An id that was dealt
//     with is skipped, and of each record the greatest version is kept, so that
//     neither a repeat nor an old state has an effect.
//   - What it can't deal with goes to a dead-letter stream of its own, with the
//     reason, and holds nothing up.
//
// On servers as in deploy/nats a team has an account of its own, and in it one
// consumer of Tercel's, which "tercel setup" makes. What the team keeps is then
// on a server of the team's:
//
//	subscriber -nats nats://nats-0:4222 -nkey secrets/seeds/billing.nk -ca ca.crt \
//		-consumer team_billing -team-nats nats://127.0.0.1:4222
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "subscriber:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s := parse()
	events, own, err := s.connect()
	if err != nil {
		return err
	}
	defer events.Close()
	defer own.Close()
	js, err := jetstream.New(own)
	if err != nil {
		return err
	}
	w, err := newWorker(ctx, js, s.team)
	if err != nil {
		return err
	}
	w.log = slog.New(slog.NewJSONHandler(os.Stdout, nil))
	consumer, err := s.consumer(ctx, events)
	if err != nil {
		return fmt.Errorf("consumer of TERCEL_ENRICHED: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(50))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil // what is in hand has been dealt with
		}
		if err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		w.take(ctx, m)
	}
}

// maxTries is after how many deliveries an event that still fails is given up.
const maxTries = 5

// take deals with one message. It is acknowledged once its effect is there, or
// once it is a dead letter.
func (w *worker) take(ctx context.Context, m jetstream.Msg) {
	log := w.log.With("id", m.Headers().Get("ce-id"), "type", m.Headers().Get("ce-type"))
	done, err := w.handle(ctx, m)
	if err == nil {
		log.Info("event", "outcome", done)
		acknowledge(ctx, m, log)
		return
	}
	meta, metaErr := m.Metadata()
	if permanent := errors.Is(err, errUnusable); !permanent && (metaErr != nil || meta.NumDelivered < maxTries) {
		log.Warn("event", "outcome", "again", "err", err)
		_ = m.NakWithDelay(time.Second) // else it comes again after AckWait
		return
	}
	if err := w.bury(ctx, m, err); err != nil {
		log.Error("dead letter not stored", "err", err)
		return // it comes again after AckWait
	}
	log.Warn("event", "outcome", "dead letter", "err", err)
	acknowledge(ctx, m, log)
}

func acknowledge(ctx context.Context, m jetstream.Msg, log *slog.Logger) {
	if err := m.DoubleAck(ctx); err != nil {
		log.Warn("not acknowledged, it comes again", "err", err)
	}
}
