package cursor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/topology"
)

// ErrHeld is returned by [Acquire] while somebody else has the lease; the
// error's text names the holder.
var ErrHeld = errors.New("held")

// ErrLost is the cause of a lease's context when the lease was lost.
var ErrLost = errors.New("lease lost")

// releaseTimeout bounds giving a lease back. One that isn't expires.
const releaseTimeout = 5 * time.Second

// Lease is the right to be the only one who does something, for as long as it
// is renewed. It renews itself.
type Lease struct {
	name    string
	holder  string
	ttl     time.Duration
	js      jetstream.JetStream
	kv      jetstream.KeyValue
	ctx     context.Context
	cancel  context.CancelCauseFunc
	renewed sync.WaitGroup
	once    sync.Once

	revision uint64    // the keeper's, and Release's once the keeper has ended
	deadline time.Time // when the server may give the lease to somebody else
}

// Acquire takes the lease called name for ttl, which must be whole seconds:
// the server knows no finer. It returns [ErrHeld] when somebody else has it.
// Characters of name that no bucket takes are replaced as in [Key.String].
//
// Whoever stops renewing keeps others out for at most ttl. Release it.
func Acquire(ctx context.Context, js jetstream.JetStream, name string, ttl time.Duration) (*Lease, error) {
	if ttl < time.Second || ttl%time.Second != 0 {
		return nil, fmt.Errorf("lease %s: time to live %s, want whole seconds", name, ttl)
	}
	kv, err := js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", topology.BucketLeases, err)
	}
	l := &Lease{name: strings.ReplaceAll(name, "%", "="), holder: holder(), ttl: ttl, js: js, kv: kv}
	for range acquireTries {
		// The server's clock starts later than this, so ours ends earlier.
		l.deadline = time.Now().Add(ttl)
		l.revision, err = kv.Create(ctx, l.name, []byte(l.holder), jetstream.KeyTTL(ttl))
		if !topology.Conflict(err) {
			break
		}
		// Create looks twice where a lease was released, and the mark of the
		// release may be forgotten in between: then nobody has it.
		if e, getErr := kv.Get(ctx, l.name); getErr == nil {
			return nil, fmt.Errorf("lease %s: %w by %s", l.name, ErrHeld, e.Value())
		}
	}
	if topology.Conflict(err) {
		return nil, fmt.Errorf("lease %s: %w by another runner", l.name, ErrHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", l.name, err)
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.renewed.Go(l.keep)
	return l, nil
}

// acquireTries bounds the attempts at a lease that nobody seems to have.
const acquireTries = 3

// Holder returns who has the lease called name, or "" if nobody has.
func Holder(ctx context.Context, js jetstream.JetStream, name string) (string, error) {
	kv, err := js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return "", fmt.Errorf("bucket %s: %w", topology.BucketLeases, err)
	}
	e, err := kv.Get(ctx, strings.ReplaceAll(name, "%", "="))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("lease %s: %w", name, err)
	}
	return string(e.Value()), nil
}

// holder tells people where the runner is, and runners apart.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), nuid.Next()[16:])
}

// Context ends when the lease is lost (its cause is then [ErrLost]), when it
// is released, and with the context that it was acquired under.
func (l *Lease) Context() context.Context { return l.ctx }

// keep renews the lease three times within its life, until its context ends. A
// renewal that gets no answer is tried again, for as long as there is time: at
// the deadline the lease is lost, whatever the server says later.
func (l *Lease) keep() {
	every := l.ttl / 3
	next := time.NewTimer(every)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-l.ctx.Done():
			return
		}
		switch err := l.renew(); {
		case err == nil:
			next.Reset(every)
		case l.ctx.Err() != nil:
			return
		case !time.Now().Before(l.deadline), topology.Conflict(err) && !l.mine(l.ctx):
			l.cancel(fmt.Errorf("lease %s: %w: %w", l.name, ErrLost, err))
			return
		default:
			next.Reset(min(100*time.Millisecond, time.Until(l.deadline)))
		}
	}
}

// renew publishes the key again, raw: the bucket's own Update would drop its
// time to live, and the lease would never end.
func (l *Lease) renew() error {
	requested := time.Now()
	ctx, cancel := l.attempt(l.ctx)
	defer cancel()
	m := nats.NewMsg("$KV." + topology.BucketLeases + "." + l.name)
	m.Data = []byte(l.holder)
	ack, err := l.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(l.revision), jetstream.WithMsgTTL(l.ttl))
	if err != nil {
		return err
	}
	l.revision, l.deadline = ack.Sequence, requested.Add(l.ttl)
	return nil
}

// minAttempt is what an answer may take however short a lease's life is.
const minAttempt = time.Second

// attempt bounds one request to a part of the lease's life, so that one without
// an answer leaves time for others.
func (l *Lease) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, min(max(l.ttl/6, minAttempt), time.Until(l.deadline)))
}

// mine reports whether a lease that is at another revision than was thought can
// still be the holder's: by a renewal whose answer got lost. Its revision is then
// taken over, but not its time, which the next renewal sees to.
func (l *Lease) mine(ctx context.Context) bool {
	ctx, cancel := l.attempt(ctx)
	defer cancel()
	e, err := l.kv.Get(ctx, l.name)
	if err != nil {
		return !errors.Is(err, jetstream.ErrKeyNotFound) // it may be, until the deadline
	}
	if string(e.Value()) != l.holder {
		return false
	}
	l.revision = e.Revision()
	return true
}

// Release gives the lease back at once, if it is still held, and ends its
// context. A lease that can't be given back ends by itself. It may be called
// again.
func (l *Lease) Release() {
	l.once.Do(func() {
		l.cancel(context.Canceled)
		l.renewed.Wait()
		// It is given back even if the context that it was taken under has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), releaseTimeout)
		defer cancel()
		for range 2 { // the renewal that was just cut off may have been stored
			err := l.kv.Purge(ctx, l.name, jetstream.LastRevision(l.revision), jetstream.PurgeTTL(time.Second))
			if !topology.Conflict(err) || !l.mine(ctx) {
				return
			}
		}
	})
}
