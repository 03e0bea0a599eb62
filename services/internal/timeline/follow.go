package timeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// indexed is one of the streams that speak of events.
type indexed struct {
	name string
	// subjects are all that do, with SOURCE for a source.
	subjects []string
	// bodies says that what a message speaks of is in its body.
	bodies bool
	// texts finds it.
	texts func(nats.Header, []byte) []string
}

var streams = []indexed{
	{
		topology.StreamRaw,
		[]string{event.PrefixRaw + ".SOURCE.>", event.PrefixRequests + ".SOURCE.>", event.PrefixDropped + ".SOURCE.>"},
		false, headerTexts,
	},
	{topology.StreamEnriched, []string{event.PrefixEnriched + ".SOURCE.>"}, false, headerTexts},
	{topology.StreamDLQ, []string{event.PrefixDLQ + ".*.SOURCE.>"}, false, headerTexts},
	{topology.StreamOutcomes, []string{topology.PrefixOutcomes + ".*.SOURCE"}, false, headerTexts},
	{topology.StreamRefused, []string{topology.PrefixRefused + ".SOURCE"}, false, refusedTexts},
	{topology.StreamReports, []string{topology.PrefixReports + ".SOURCE.>"}, true, reportTexts},
}

// of returns the subjects of one source, or of all for "".
func (s indexed) of(source string) []string {
	token := "*"
	if source != "" {
		token = event.Escape(source)
	}
	subjects := make([]string, len(s.subjects))
	for i, subject := range s.subjects {
		subjects[i] = strings.Replace(subject, "SOURCE", token, 1)
	}
	return subjects
}

// Bounds of following a stream.
const (
	retryFollow    = 2 * time.Second
	requestTimeout = 5 * time.Second
	// retainEvery is how often it is looked at what has left the streams.
	retainEvery = time.Minute
	// followedFor is how long a stream is followed until its next failure is news.
	followedFor = time.Minute
	// heartbeat is how often the server tells that a consumer is still there.
	heartbeat = 5 * time.Second
)

// follow reads a stream into its shelf until ctx ends. What fails begins again
// where it was, and is told once until something was read, or nothing for long.
func (x *Index) follow(ctx context.Context, s indexed) {
	for healthy := true; ctx.Err() == nil; {
		began := time.Now()
		_, before := x.shelves[s.name].position() // by time, since a stream that is made anew has the same sequences
		err := x.read(ctx, s)
		if _, after := x.shelves[s.name].position(); !after.Equal(before) || time.Since(began) > followedFor {
			healthy = true
		}
		if healthy && ctx.Err() == nil {
			x.deps.Log.LogAttrs(ctx, slog.LevelWarn, "stream can't be followed now, the index is behind", slog.Any("err", err))
			healthy = false
		}
		select {
		case <-time.After(retryFollow):
		case <-ctx.Done():
		}
	}
}

// read reads a stream from where its shelf ends, for as long as it can.
func (x *Index) read(ctx context.Context, s indexed) error {
	fail := func(err error) error { return fmt.Errorf("read %s: %w", s.name, err) }
	stream, err := x.open(ctx, s)
	if err != nil {
		return fail(err)
	}
	last, _ := x.shelves[s.name].position()
	cons, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		HeadersOnly: !s.bodies, FilterSubjects: s.of(x.cfg.Source), InactiveThreshold: time.Minute,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: last + 1,
		MaxResetAttempts: 1, // follow tries again, and ends with its context, which the client's own attempts don't
	})
	if err != nil {
		return fail(err)
	}
	messages, err := cons.Messages(jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return fail(err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fail(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fail(err)
		}
		x.take(ctx, s, consume.Message{Header: m.Headers(), Data: m.Data(), Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp})
	}
}

func (x *Index) take(ctx context.Context, s indexed, m consume.Message) {
	if err := x.shelves[s.name].add(m.Sequence, m.StoredAt, s.texts(m.Header, m.Data)); err != nil {
		x.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a part of the index stays in memory", slog.Any("err", err))
	}
}

// open finds a stream and brings its shelf to what it has. Nobody may be reading
// it into the shelf meanwhile.
func (x *Index) open(ctx context.Context, s indexed) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := x.deps.JetStream.Stream(ctx, s.name)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	x.shelves[s.name].open(info.Created, info.State.FirstSeq, info.State.LastSeq)
	return stream, nil
}

// retain drops, now and then, what has left the streams.
func (x *Index) retain(ctx context.Context) {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, s := range streams {
				x.retainOne(ctx, s)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (x *Index) retainOne(ctx context.Context, s indexed) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if stream, err := x.deps.JetStream.Stream(ctx, s.name); err == nil { // else the next time
		x.shelves[s.name].retain(stream.CachedInfo().State.FirstSeq)
	}
}
