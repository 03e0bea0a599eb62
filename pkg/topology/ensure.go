package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
)

// Change is one difference between what is wanted and what a server has.
type Change struct {
	// Kind is "stream" or "bucket", Name its name.
	Kind, Name string
	// Setting is what differs, or "missing" when there is none at all.
	Setting string
	// Have and Want are the setting's values.
	Have, Want string
	// Destructive says that the change would lose stored messages or can't be
	// made on a live stream.
	Destructive bool
}

// String gives the change as a line for people.
func (c Change) String() string {
	if c.Setting == settingMissing {
		return fmt.Sprintf("%s %s: missing", c.Kind, c.Name)
	}
	return fmt.Sprintf("%s %s: %s is %s, want %s", c.Kind, c.Name, c.Setting, c.Have, c.Want)
}

// ErrDestructive is returned by [Ensure] when a stream that exists could only
// be brought to the wanted settings by losing messages.
var ErrDestructive = errors.New("destructive change refused: change it by hand, or keep the old setting")

// ErrNotSetUp is returned by [Ensure] and [Restore] for what is missing where
// another is to make it.
var ErrNotSetUp = errors.New("missing: make it with \"tercel setup\"")

// Ensure creates the streams and buckets that are missing and updates those
// that differ. It changes nothing when a change would be destructive, and
// tries again for up to a minute while the servers are not ready. Where c says
// [ByCommand], it only waits for what is missing. It is safe to run in several
// processes at once.
func Ensure(ctx context.Context, js jetstream.JetStream, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	policy := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(time.Minute)), ctx)
	return backoff.Retry(func() error {
		err := ensure(ctx, js, c)
		var api *jetstream.APIError
		if errors.Is(err, ErrDestructive) || errors.As(err, &api) && api.Code >= 400 && api.Code < 500 && api.ErrorCode != errNoPeers {
			return backoff.Permanent(err)
		}
		return err
	}, policy)
}

// errNoPeers is the server's code for too few nodes to keep a stream, although
// others may be about to join.
const errNoPeers jetstream.ErrorCode = 10005

func ensure(ctx context.Context, js jetstream.JetStream, c Config) error {
	changes, err := Diff(ctx, js, c)
	if err != nil {
		return err
	}
	if c.Setup == ByCommand {
		return missing(changes)
	}
	var refused []error
	for _, ch := range changes {
		if ch.Destructive {
			refused = append(refused, fmt.Errorf("%s: %w", ch, ErrDestructive))
		}
	}
	if len(refused) > 0 {
		return errors.Join(refused...)
	}
	changed := func(name string) bool {
		return slices.ContainsFunc(changes, func(ch Change) bool { return ch.Name == name })
	}
	for _, s := range Streams(c) {
		if !changed(s.Name) {
			continue
		}
		err := setUp(s, func(s jetstream.StreamConfig) error {
			_, err := bounded(ctx, js.CreateOrUpdateStream, s)
			return err
		})
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	for _, b := range Buckets(c) {
		if !changed(b.Bucket) {
			continue
		}
		if _, err := bounded(ctx, js.CreateOrUpdateKeyValue, b); err != nil {
			return fmt.Errorf("bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}

// maxRequest bounds one request. A cluster leaves some unanswered that come while
// another process makes what they are about: the next attempt finds it made.
const maxRequest = 2 * time.Second

func bounded[What, Answer any](ctx context.Context, request func(context.Context, What) (Answer, error), what What) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, maxRequest)
	defer cancel()
	return request(ctx, what)
}

// setUp makes or changes a stream. One in an account that may have fewer
// consumers than the stream asks for gets as many as the account.
func setUp(s jetstream.StreamConfig, request func(jetstream.StreamConfig) error) error {
	err := request(s)
	if errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
		s.MaxConsumers = -1
		err = request(s)
	}
	return err
}

// missing names what of changes is to be made, or returns nil. Other differences
// don't keep a service from working, and may be those of a file that is newer.
func missing(changes []Change) error {
	var errs []error
	for _, ch := range changes {
		if ch.Setting == settingMissing {
			errs = append(errs, fmt.Errorf("%s %s: %w", ch.Kind, ch.Name, ErrNotSetUp))
		}
	}
	return errors.Join(errs...)
}

// settingMissing stands for a whole stream or bucket in a [Change].
const settingMissing = "missing"

// Diff lists how the server's streams and buckets differ from what c wants.
func Diff(ctx context.Context, js jetstream.JetStream, c Config) ([]Change, error) {
	var changes []Change
	for _, want := range Streams(c) {
		s, err := bounded(ctx, js.Stream, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			changes = append(changes, Change{Kind: "stream", Name: want.Name, Setting: settingMissing})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		changes = append(changes, diffStream(s.CachedInfo().Config, want)...)
	}
	for _, want := range Buckets(c) {
		kv, err := bounded(ctx, js.KeyValue, want.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			changes = append(changes, Change{Kind: "bucket", Name: want.Bucket, Setting: settingMissing})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
		status, err := kv.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
		if have := status.Config(); have.Replicas != want.Replicas || have.TTL != want.TTL {
			changes = append(changes, Change{
				Kind: "bucket", Name: want.Bucket, Setting: "replicas, ttl",
				Have: fmt.Sprintf("%d, %s", have.Replicas, have.TTL), Want: fmt.Sprintf("%d, %s", want.Replicas, want.TTL),
			})
		}
	}
	return changes, nil
}

func diffStream(have, want jetstream.StreamConfig) []Change {
	var changes []Change
	add := func(setting string, differs, destructive bool, h, w any) {
		if differs {
			changes = append(changes, Change{
				Kind: "stream", Name: want.Name, Setting: setting,
				Have: fmt.Sprint(h), Want: fmt.Sprint(w), Destructive: destructive,
			})
		}
	}
	less := func(w, h int64) bool { return w > 0 && (h <= 0 || w < h) }
	add("subjects", !slices.Equal(have.Subjects, want.Subjects), false, have.Subjects, want.Subjects)
	add("storage", have.Storage != want.Storage, true, have.Storage, want.Storage)
	add("retention", have.Retention != want.Retention, true, have.Retention, want.Retention)
	add("replicas", have.Replicas != want.Replicas, false, have.Replicas, want.Replicas)
	add("max_age", have.MaxAge != want.MaxAge, less(int64(want.MaxAge), int64(have.MaxAge)), have.MaxAge, want.MaxAge)
	add("max_bytes", have.MaxBytes != want.MaxBytes, less(want.MaxBytes, have.MaxBytes), have.MaxBytes, want.MaxBytes)
	add("max_msgs", have.MaxMsgs != want.MaxMsgs, false, have.MaxMsgs, want.MaxMsgs) // only of streams that drop their oldest
	add("max_msgs_per_subject", have.MaxMsgsPerSubject != want.MaxMsgsPerSubject, false, have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	add("max_consumers", have.MaxConsumers != want.MaxConsumers, false, have.MaxConsumers, want.MaxConsumers)
	add("dedup_window", have.Duplicates != want.Duplicates, false, have.Duplicates, want.Duplicates)
	add("atomic publish", have.AllowAtomicPublish != want.AllowAtomicPublish, false, have.AllowAtomicPublish, want.AllowAtomicPublish)
	add("direct reads", have.AllowDirect != want.AllowDirect, false, have.AllowDirect, want.AllowDirect)
	add("discard", have.Discard != want.Discard, false, have.Discard, want.Discard)
	return changes
}
