package audit

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// SetBound makes passes short enough for a test to need several.
func (a *Audit) SetBound(triggers int) { a.bound = triggers }

// Judge tells what ails a consumer.
func Judge(info *jetstream.ConsumerInfo, last, end uint64) string {
	return map[verdict]string{healthy: "healthy", behind: "behind", ahead: "ahead"}[judge(info, last, end)]
}

// Check is one pass over one consumer of which the server told info.
func (a *Audit) Check(ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo) (repaired bool, err error) {
	seen := map[string]stance{}
	repaired, err = a.check(ctx, stream, info, info.Created, seen)
	a.suspects = seen
	return repaired, err
}
