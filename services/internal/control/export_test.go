package control

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// ReconcileWithin returns [RunReconcile] and [ServeReconcile] where whoever asks
// waits as long as bound.
func ReconcileWithin(bound time.Duration) (
	ask func(context.Context, *nats.Conn, Request) (Started, error),
	serve func(context.Context, *nats.Conn, func(context.Context, Request) (Started, error)) error,
) {
	k := reconcile
	k.bound = bound
	return k.ask, k.serve
}
