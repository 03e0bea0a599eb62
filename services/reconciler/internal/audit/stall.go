package audit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// stance is where a consumer stands.
type stance struct{ delivered, ackFloor uint64 }

// verdict is what ails a consumer.
type verdict int

const (
	healthy verdict = iota
	// behind: it has delivered less than its stream holds for it and says that
	// nothing is pending.
	behind
	// ahead: it has delivered more than its stream ever held, which must have
	// lost its tail. What is stored until the stream has caught up is skipped.
	ahead
)

// judge compares a consumer's own word with its stream: last is the last
// sequence that its filters let through, end the stream's last. The ack floor
// alone proves nothing, since a message that was delivered too often can hold
// it down for ever.
func judge(info *jetstream.ConsumerInfo, last, end uint64) verdict {
	switch {
	case info.Delivered.Stream > end:
		return ahead
	case info.NumPending == 0 && info.NumAckPending == 0 && info.NumWaiting > 0 && info.Delivered.Stream < last:
		return behind
	}
	return healthy
}

// repair finds the stages' consumers that stand still and sets them going
// again. One that seems behind must stand where it stood a pass ago: a message
// may just have come. HealthyAt of p is when all were last known to be
// going. It returns the names of those that it has set going, also with an error.
func (a *Audit) repair(ctx context.Context, p *progress, f *findings) (map[string]bool, error) {
	repaired, seen := map[string]bool{}, map[string]stance{}
	for _, name := range []string{topology.StreamRaw, topology.StreamEnriched, topology.StreamAdvisories} {
		stream, err := a.js.Stream(ctx, name)
		if err != nil {
			return repaired, fmt.Errorf("stream %s: %w", name, err)
		}
		list := stream.ListConsumers(ctx)
		for info := range list.Info() {
			if _, _, ok := topology.Stage(info.Name); !ok {
				continue
			}
			set, err := a.check(ctx, stream, info, p.HealthyAt, seen)
			if err == nil {
				err = p.stand(info)
			}
			if err != nil {
				return repaired, fmt.Errorf("consumer %s of %s: %w", info.Name, name, err)
			}
			if set {
				repaired[info.Name] = true
				f.add(report.Finding{
					Kind: report.ConsumerStalled, Name: info.Name, Repaired: true,
					Detail: fmt.Sprintf("it had delivered %d of %s and stood still", info.Delivered.Stream, name),
				}, fmt.Sprint(info.Delivered.Stream, info.AckFloor.Stream))
			}
		}
		if err := list.Err(); err != nil {
			return repaired, fmt.Errorf("consumers of %s: %w", name, err)
		}
	}
	a.suspects = seen
	return repaired, nil
}

func (a *Audit) check(
	ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo, healthyAt time.Time, seen map[string]stance,
) (repaired bool, err error) {
	last, err := topology.LastFor(ctx, stream, info.Config)
	if err != nil {
		return false, err
	}
	current, err := stream.Info(ctx) // after the consumer was asked: it can't have delivered more than this
	if err != nil {
		return false, err
	}
	end := current.State.LastSeq
	stands := stance{info.Delivered.Stream, info.AckFloor.Stream}
	var from uint64
	switch id := info.Stream + " " + info.Name; judge(info, last, end) {
	case healthy:
		return false, nil
	case behind:
		if before, suspect := a.suspects[id]; !suspect || before != stands {
			seen[id] = stands
			return false, nil
		}
		from = info.AckFloor.Stream + 1
	case ahead:
		if from, err = a.firstSince(ctx, info, healthyAt, end); err != nil {
			return false, err
		}
	}
	if _, err := stream.ResetConsumerToSequence(ctx, info.Name, from); err != nil {
		return false, fmt.Errorf("reset to %d: %w", from, err)
	}
	stage, name, _ := topology.Stage(info.Name)
	a.repaired.Add(ctx, 1, metrics.ConsumersRepaired.With(stage, name))
	a.deps.Log.LogAttrs(ctx, slog.LevelError, "consumer stood still and was set going again", slog.String("stage", stage),
		slog.String("name", name), slog.Uint64("delivered", stands.delivered), slog.Uint64("ack_floor", stands.ackFloor),
		slog.Uint64("stream_last", end), slog.Uint64("from", from))
	return true, nil
}

// firstSince returns the sequence of the first message that a consumer which
// is ahead of its stream may have skipped. The stream lost its tail after the
// last pass, so whatever it took in its place is newer than that.
func (a *Audit) firstSince(ctx context.Context, info *jetstream.ConsumerInfo, healthyAt time.Time, end uint64) (uint64, error) {
	o := consume.ScanOptions{Stream: info.Stream, Subjects: info.Config.FilterSubjects, HeadersOnly: true}
	if info.Config.FilterSubject != "" {
		o.Subjects = []string{info.Config.FilterSubject}
	}
	if !healthyAt.IsZero() {
		o.FromTime = healthyAt.Add(-skew)
	}
	for m, err := range consume.Scan(ctx, a.js, o) {
		if err != nil {
			return 0, err
		}
		return m.Sequence, nil
	}
	return end + 1, nil
}
