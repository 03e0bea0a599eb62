package api

import (
	"context"
	"errors"
	"maps"
	"slices"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// destinations is the DestinationService.
type destinations struct{ *API }

// ListDestinations lists the destinations of the pipeline file.
func (s destinations) ListDestinations(ctx context.Context, _ *connect.Request[adminv1.ListDestinationsRequest]) (*connect.Response[adminv1.ListDestinationsResponse], error) {
	resp := &adminv1.ListDestinationsResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Destinations)) {
		d, err := s.destination(ctx, name)
		if err != nil {
			return nil, err
		}
		resp.Destinations = append(resp.Destinations, d)
	}
	return connect.NewResponse(resp), nil
}

func (s destinations) destination(ctx context.Context, name string) (*adminv1.Destination, error) {
	d := s.cfg.Destinations[name]
	out := &adminv1.Destination{Name: name, Subjects: d.Subjects(), Versioned: versioned(d)}
	var err error
	if out.Kind, err = d.Kind(); err != nil {
		return nil, err
	}
	cons, err := s.js.Consumer(ctx, topology.StreamEnriched, topology.DeliverDurable(name))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		out.Unserved = true
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	info := cons.CachedInfo()
	out.Pending, out.InHand = info.NumPending, count(info.NumAckPending)
	if info.AckFloor.Last != nil {
		out.LastAckAt = stamp(*info.AckFloor.Last)
	}
	if info.Paused {
		out.PausedUntil = stamp(s.deps.Now().Add(info.PauseRemaining))
		out.PausedUntilResumed = topology.PausedByHand(info)
	}
	return out, nil
}

// PauseDestination pauses the consumer of a destination.
func (s destinations) PauseDestination(ctx context.Context, req *connect.Request[adminv1.PauseDestinationRequest]) (*connect.Response[adminv1.PauseDestinationResponse], error) {
	if err := s.act(ctx, req.Msg.GetDestination(), topology.PauseDestination); err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.PauseDestinationResponse{}), nil
}

// ResumeDestination ends a pause.
func (s destinations) ResumeDestination(ctx context.Context, req *connect.Request[adminv1.ResumeDestinationRequest]) (*connect.Response[adminv1.ResumeDestinationResponse], error) {
	if err := s.act(ctx, req.Msg.GetDestination(), topology.ResumeDestination); err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ResumeDestinationResponse{}), nil
}

func (s destinations) act(ctx context.Context, name string, do func(context.Context, jetstream.JetStream, string) error) error {
	if _, ok := s.cfg.Destinations[name]; !ok {
		return notFound("destination %q: the pipeline file has none of that name; there are: %s", name, names(s.cfg.Destinations))
	}
	err := do(ctx, s.js, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fail(connect.CodeUnavailable, adminv1.Reason_REASON_NOBODY_ANSWERS, "%w: no sink has served it yet", err)
	}
	return err
}
