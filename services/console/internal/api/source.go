package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// sources is the SourceService.
type sources struct{ *API }

// Bounds of the time over which requests are counted.
const (
	defaultCount = 24 * time.Hour
	maxCount     = 7 * 24 * time.Hour
)

// ListSources lists the sources of the pipeline file.
func (s sources) ListSources(ctx context.Context, req *connect.Request[adminv1.ListSourcesRequest]) (*connect.Response[adminv1.ListSourcesResponse], error) {
	window := defaultCount
	if d := req.Msg.GetWindow(); d != nil {
		if window = d.AsDuration(); !d.IsValid() || window <= 0 || window > maxCount {
			return nil, invalid("window", "more than 0s and at most 7 days")
		}
	}
	health, err := s.health(ctx)
	if err != nil {
		return nil, err
	}
	now := s.deps.Now()
	from := now.Add(-window)
	history, err := intake.Read(ctx, s.js, from, now)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListSourcesResponse{CountedSince: stamp(from)}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Sources)) {
		out, err := s.source(ctx, name)
		if err != nil {
			return nil, err
		}
		counts := history.Counts(name, from, now)
		out.Accepted, out.Refused = uint64(counts.Accepted()), map[string]uint64{}
		for outcome, n := range counts.Refused() {
			out.Refused[utf8s(outcome)] = uint64(n)
		}
		tellHealth(out, health[name])
		resp.Sources = append(resp.Sources, out)
	}
	return connect.NewResponse(resp), nil
}

// health is how sources send, of those that a reconciler looks after.
func (s sources) health(ctx context.Context) (map[string]*cursor.Health, error) {
	store, err := cursor.Open(ctx, s.js)
	if err != nil {
		return nil, err
	}
	all, err := store.Healths(ctx)
	byName := map[string]*cursor.Health{}
	for _, h := range all {
		byName[h.Source] = &h
	}
	return byName, err
}

func tellHealth(out *adminv1.Source, h *cursor.Health) {
	if h == nil {
		return
	}
	out.Learned = &adminv1.LearnedRate{Since: stamp(h.Learned.Since), Minutes: count(h.Learned.Minutes), Enough: h.Learned.Enough}
	for _, alarm := range h.Alarms() {
		out.Alarms = append(out.Alarms, utf8s(alarm))
	}
	if h.Silence != nil {
		out.SilentSince, out.AskedAt = stamp(h.Silence.Since), stamp(h.Silence.ProbedAt)
	}
}

// source is one source, without counts.
func (s sources) source(ctx context.Context, name string) (*adminv1.Source, error) {
	cfg := s.cfg.Sources[name]
	out := &adminv1.Source{Name: name, Preset: cfg.Preset, Resources: slices.Sorted(maps.Keys(cfg.Resources))}
	seen, err := s.lastSeen(ctx, name)
	if err != nil {
		return nil, err
	}
	out.LastSeenAt = stamp(seen)
	cons, err := s.js.Consumer(ctx, topology.StreamRaw, topology.EnrichDurable(name))
	if errors.Is(err, jetstream.ErrConsumerNotFound) { // no enricher has served it yet
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	info := cons.CachedInfo()
	out.Pending, out.InHand = info.NumPending, uint64(info.NumAckPending)
	if info.Paused {
		out.PausedUntil = stamp(s.deps.Now().Add(info.PauseRemaining))
		out.PausedByOperator = topology.PausedByHand(info)
	}
	return out, nil
}

// lastSeen is when the last webhook was stored. What Tercel itself sent in since
// then is passed over, as far as one look back goes.
func (s sources) lastSeen(ctx context.Context, name string) (at time.Time, err error) {
	_, err = lookback.Read(ctx, s.js, lookback.Options{
		Stream: topology.StreamRaw, Subjects: []string{event.PrefixRaw + "." + name + ".>"}, HeadersOnly: true,
	}, func(m consume.Message) bool {
		if event.Origin(m.Header.Get(event.HeaderOrigin)) != event.Webhook {
			return true
		}
		at = m.StoredAt
		return false
	})
	return at, err
}

// PauseSource pauses the enricher's consumer of a source.
func (s sources) PauseSource(ctx context.Context, req *connect.Request[adminv1.PauseSourceRequest]) (*connect.Response[adminv1.PauseSourceResponse], error) {
	if err := s.act(ctx, req.Msg.GetSource(), topology.PauseSource); err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.PauseSourceResponse{}), nil
}

// ResumeSource ends a pause.
func (s sources) ResumeSource(ctx context.Context, req *connect.Request[adminv1.ResumeSourceRequest]) (*connect.Response[adminv1.ResumeSourceResponse], error) {
	if err := s.act(ctx, req.Msg.GetSource(), topology.ResumeSource); err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ResumeSourceResponse{}), nil
}

func (s sources) act(ctx context.Context, name string, do func(context.Context, jetstream.JetStream, string) error) error {
	if _, ok := s.cfg.Sources[name]; !ok {
		return notFound("source %q: the pipeline file has none of that name; there are: %s", name, names(s.cfg.Sources))
	}
	err := do(ctx, s.js, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fail(connect.CodeUnavailable, adminv1.Reason_REASON_NOBODY_ANSWERS, "%w: no enricher has served it yet", err)
	}
	return err
}
