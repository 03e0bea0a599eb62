package topology

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Put stores the value of a bucket's key that is still at a revision, and
// returns its new one. Revision 0 is that of a key that isn't there or was
// removed: the bucket's own Update would take it for one that never was. Where
// somebody else was first, the error is a [Conflict].
func Put(ctx context.Context, kv jetstream.KeyValue, key string, value []byte, revision uint64) (uint64, error) {
	if revision == 0 {
		return kv.Create(ctx, key, value)
	}
	return kv.Update(ctx, key, value, revision)
}

// Conflict reports whether a write had no effect because somebody else was
// first: the key or subject is no longer at the revision that was named.
// Replicated streams say so by a code of their own while the other write is in
// flight, which the client's ErrKeyExists doesn't match everywhere.
func Conflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
