package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/topology"
)

// known is what was seen of a stream at the end of a pass.
type known struct {
	// Created tells it from another one of its name.
	Created time.Time `json:"created"`
	// First was its oldest message. If that leaves it young, it was removed.
	First end `json:"first,omitzero"`
	// Deleted is how many messages were missing between its first and its last.
	Deleted int `json:"deleted,omitzero"`
	// MaxAge is what its messages were kept for, in seconds; 0 is for ever.
	MaxAge float64 `json:"max_age,omitzero"`
}

// slackAge is how long before its age a message may leave its stream.
const slackAge = time.Minute

// lostWith is what is lost with each bucket.
var lostWith = map[string]string{
	topology.BucketCursors:     "the positions of reconciliation and of this audit: both begin anew",
	topology.BucketLeases:      "the leases: they are taken again",
	topology.BucketLedger:      "the ledger: it is read again from the enriched events",
	topology.BucketDeadLetters: "what became of dead letters: those that were answered are open again",
	topology.BucketTokens:      "refresh tokens that their issuers have replaced: they must be granted again",
	topology.BucketWaits:       "how often deliveries were no attempts: they are counted anew",
}

// restore makes streams and buckets anew that are gone. It comes before the
// lease, which needs a bucket.
func (a *Audit) restore(ctx context.Context, f *findings) error {
	restored, err := topology.Restore(ctx, a.js, a.cfg.Streams)
	now := strconv.FormatInt(a.deps.Now().Unix()/int64(slackAge.Seconds()), 10) // replicas find it at the same time
	for _, r := range restored {
		kind, detail := report.StreamRemoved, "all that it held is lost"
		if r.Kind == "bucket" {
			kind, detail = report.BucketRemoved, lostWith[r.Name]
		}
		if r.Err != nil {
			detail = r.Err.Error()
		}
		f.add(report.Finding{Kind: kind, Name: r.Name, Detail: detail, Repaired: r.Err == nil}, now)
	}
	return err
}

// lookBack compares the streams with what the last pass saw of them, and notes
// what there is now.
func (a *Audit) lookBack(ctx context.Context, p *progress, f *findings) error {
	for _, s := range topology.Streams(a.cfg.Streams) {
		stream, err := a.js.Stream(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		if err := a.compare(ctx, stream.CachedInfo(), p, f); err != nil {
			return err
		}
		p.remember(stream.CachedInfo())
	}
	return nil
}

// compare finds what has happened to a stream. The audit begins anew where
// outcomes that were seen may be lost, or sequences stand for other messages now.
func (a *Audit) compare(ctx context.Context, info *jetstream.StreamInfo, p *progress, f *findings) error {
	name := info.Config.Name
	if was := p.Streams[name].Created; !was.IsZero() && !was.Equal(info.Created) {
		if !f.has(report.StreamRemoved, name) {
			f.add(report.Finding{
				Kind: report.StreamRecreated, Name: name, Repaired: true,
				Detail: fmt.Sprintf("it was made at %s in place of another, which is lost; the audit begins anew", info.Created.UTC().Format(time.RFC3339)),
			}, info.Created.String())
		}
		p.forget(name)
		return nil
	}
	if !slices.Contains(audited, name) {
		return nil // it may drop its oldest messages when it is full
	}
	lost, err := p.lostTail(ctx, a.js, name)
	if err != nil {
		return err
	}
	if lost {
		f.add(report.Finding{
			Kind: report.StreamTruncated, Name: name, Repaired: true,
			Detail: fmt.Sprintf("it ends at %d and had come to %d; the audit begins anew", info.State.LastSeq, p.Ends[name].Sequence),
		}, fmt.Sprint(info.State.LastSeq))
		p.forget(name)
		return nil
	}
	a.purged(info, p, f)
	return nil
}

// purged finds messages that left a stream before their time. Events that were
// not delivered by then are made again of their triggers.
func (a *Audit) purged(info *jetstream.StreamInfo, p *progress, f *findings) {
	name := info.Config.Name
	was := p.Streams[name]
	first, age := info.State.FirstSeq, info.Config.MaxAge
	// What was kept for less at the last pass may have left by that age before it was raised.
	if before := time.Duration(was.MaxAge * float64(time.Second)); before > 0 && (age == 0 || before < age) {
		age = before
	}
	removed := info.State.NumDeleted - was.Deleted
	young := func(m end) bool {
		return m.Sequence > 0 && m.Sequence < first && (age == 0 || info.TimeStamp.Sub(m.StoredAt) < age-slackAge)
	}
	early := was.First.Sequence > 0 && (young(was.First) || young(p.Ends[name])) // an empty one has lost its end already
	if !early && removed <= 0 {
		return
	}
	finding := report.Finding{Kind: report.StreamPurged, Name: name}
	switch {
	case early:
		finding.Detail = fmt.Sprintf("messages in front of %d left it before their age of %s", first, age)
	default:
		finding.Count = removed
		finding.Detail = fmt.Sprintf("%d messages between %d and %d were deleted", removed, first, info.State.LastSeq)
	}
	switch name {
	case topology.StreamEnriched:
		finding.Repaired = true
		finding.Detail += "; the triggers of events that were not delivered are sent again"
		p.Again = p.Undelivered.Add(-a.cfg.Settle - skew)
		clear(p.Sources)
	case topology.StreamRaw:
		finding.Detail += "; reconciliation finds the records of triggers that were not enriched"
	}
	f.add(finding, fmt.Sprint(first, info.State.NumDeleted))
}

// forget drops all that was known of a stream that holds something else now.
func (p *progress) forget(stream string) {
	clear(p.Sources)
	delete(p.Streams, stream)
	delete(p.Ends, stream)
	for id := range p.Consumers {
		if of, _ := splitID(id); of == stream {
			delete(p.Consumers, id)
		}
	}
}

// remember notes what there is of a stream. It does so before anything of the
// stream is read, so that what is removed meanwhile is found by the next pass.
func (p *progress) remember(info *jetstream.StreamInfo) {
	k := known{Created: info.Created, Deleted: info.State.NumDeleted, MaxAge: info.Config.MaxAge.Seconds()}
	if info.State.Msgs > 0 {
		k.First = end{info.State.FirstSeq, info.State.FirstTime}
	}
	p.Streams[info.Config.Name] = k
}

// undelivered is when the oldest event was stored that some destination has not
// taken, or now.
func (a *Audit) undelivered(ctx context.Context, now time.Time) (time.Time, error) {
	stream, err := a.js.Stream(ctx, topology.StreamEnriched)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", topology.StreamEnriched, err)
	}
	oldest := now
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if stage, _, ok := topology.Stage(info.Name); !ok || stage != topology.StageDeliver || info.NumPending == 0 && info.NumAckPending == 0 {
			continue
		}
		m, err := stream.GetMsg(ctx, info.AckFloor.Stream+1, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("message %s %d: %w", topology.StreamEnriched, info.AckFloor.Stream+1, err)
		}
		if m.Time.Before(oldest) {
			oldest = m.Time
		}
	}
	if err := list.Err(); err != nil {
		return time.Time{}, fmt.Errorf("consumers of %s: %w", topology.StreamEnriched, err)
	}
	return oldest, nil
}
