package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// standing is what was seen of a stage's consumer at the end of a pass.
type standing struct {
	// Created tells it from another one of its name.
	Created time.Time `json:"created"`
	// AckFloor is up to where it was through with its stream.
	AckFloor uint64 `json:"ack_floor"`
	// Config is how it was made.
	Config jsontext.Value `json:"config"`
}

func splitID(id string) (stream, consumer string) {
	stream, consumer, _ = strings.Cut(id, " ")
	return stream, consumer
}

// worked reports whether the pipeline file has whom a consumer serves: the
// consumers of others are deleted rightly.
func (a *Audit) worked(consumer string) bool {
	switch stage, name, _ := topology.Stage(consumer); stage {
	case topology.StageEnrich:
		return slices.Contains(a.cfg.Sources, name)
	case topology.StageDeliver:
		return slices.Contains(a.cfg.Destinations, name)
	default:
		return true
	}
}

// missing finds stages' consumers that were deleted since the last pass, or made
// anew. With its consumer a stage loses its place: it is put back to where it was
// through, so that nothing is passed over and little is done again.
func (a *Audit) missing(ctx context.Context, p *progress, f *findings) error {
	for _, id := range slices.Sorted(maps.Keys(p.Consumers)) {
		was := p.Consumers[id]
		stream, name := splitID(id)
		if !a.worked(name) {
			delete(p.Consumers, id)
			continue
		}
		cons, err := a.js.Consumer(ctx, stream, name)
		gone := errors.Is(err, jetstream.ErrConsumerNotFound)
		if gone { // its stage is likely to be at it
			select {
			case <-time.After(consume.RemakeAfter):
			case <-ctx.Done():
				return ctx.Err()
			}
			cons, err = a.js.Consumer(ctx, stream, name)
			gone = errors.Is(err, jetstream.ErrConsumerNotFound)
		}
		if err != nil && !gone {
			return fmt.Errorf("consumer %s of %s: %w", name, stream, err)
		}
		if !gone && cons.CachedInfo().Created.Equal(was.Created) {
			continue
		}
		how := "it was made anew by its stage"
		if gone {
			how = "it was made anew here"
			if cons, err = a.remake(ctx, stream, was); err != nil {
				return err
			}
		}
		if cons.CachedInfo().AckFloor.Stream < was.AckFloor {
			s, err := a.js.Stream(ctx, stream)
			if err == nil {
				_, err = s.ResetConsumerToSequence(ctx, name, was.AckFloor+1)
			}
			if err != nil {
				return fmt.Errorf("consumer %s of %s: reset to %d: %w", name, stream, was.AckFloor+1, err)
			}
		}
		f.add(report.Finding{
			Kind: report.ConsumerDeleted, Name: name, Repaired: true,
			Detail: fmt.Sprintf("%s, and goes on behind %d of %s", how, was.AckFloor, stream),
		}, cons.CachedInfo().Created.String())
		delete(p.Consumers, id)
	}
	return nil
}

func (a *Audit) remake(ctx context.Context, stream string, was standing) (jetstream.Consumer, error) {
	var cfg jetstream.ConsumerConfig
	if err := json.Unmarshal(was.Config, &cfg); err != nil {
		return nil, errors.New("consumer: its settings were not written by an audit")
	}
	if cfg.PauseUntil != nil && cfg.PauseUntil.Before(a.deps.Now()) {
		cfg.PauseUntil = nil
	}
	cons, err := a.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("consumer %s of %s: %w", cfg.Durable, stream, err)
	}
	return cons, nil
}

// stand notes where a consumer stands.
func (p *progress) stand(info *jetstream.ConsumerInfo) error {
	cfg, err := json.Marshal(info.Config)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", info.Name, err)
	}
	p.Consumers[info.Stream+" "+info.Name] = standing{info.Created, info.AckFloor.Stream, cfg}
	return nil
}
