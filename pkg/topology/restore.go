package topology

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Restored is a stream or bucket that was missing.
type Restored struct {
	// Kind is "stream" or "bucket", Name its name.
	Kind, Name string
	// Err is why it could not be made, or nil.
	Err error
}

// Restore makes the streams and buckets that are missing, and touches no other.
// Where c says [ByCommand] it makes none, and their errors wrap [ErrNotSetUp].
// It returns those, and an error if it can't be told which there are.
func Restore(ctx context.Context, js jetstream.JetStream, c Config) ([]Restored, error) {
	var all []Restored
	for _, want := range Streams(c) {
		_, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if err = ErrNotSetUp; c.Setup != ByCommand {
				err = setUp(want, func(s jetstream.StreamConfig) error {
					_, err := js.CreateStream(ctx, s)
					return err
				})
			}
			all = append(all, Restored{"stream", want.Name, err})
			continue
		}
		if err != nil {
			return all, fmt.Errorf("stream %s: %w", want.Name, err)
		}
	}
	for _, want := range Buckets(c) {
		_, err := js.KeyValue(ctx, want.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			if err = ErrNotSetUp; c.Setup != ByCommand {
				_, err = js.CreateKeyValue(ctx, want)
			}
			all = append(all, Restored{"bucket", want.Bucket, err})
			continue
		}
		if err != nil {
			return all, fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
	}
	return all, nil
}
