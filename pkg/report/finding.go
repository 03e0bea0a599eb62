package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Finding is something that is wrong inside the pipeline, as the audit or a
// reconciliation run has found it.
type Finding struct {
	// At is when it was found.
	At   time.Time   `json:"at"`
	Kind FindingKind `json:"kind"`
	// Name is what it was found at: a stream, a bucket, a consumer, a source or a
	// resource.
	Name string `json:"name"`
	// Count is how many messages, triggers or records it is about, if that is
	// known.
	Count int `json:"count,omitzero"`
	// Detail says more, for people. It has no payload.
	Detail string `json:"detail"`
	// Repaired says that it was put right.
	Repaired bool `json:"repaired"`
}

// FindingKind is what is wrong, a closed set.
type FindingKind string

// The kinds of findings.
const (
	// TriggersLost: triggers were accepted and had no outcome (promise 3).
	TriggersLost FindingKind = "triggers_lost"
	// RecordsLostInside: records were missed although their triggers had been
	// accepted, which had no outcome.
	RecordsLostInside FindingKind = "records_lost_inside"
	// ConsumerDeleted: a stage's consumer is gone, or was made anew.
	ConsumerDeleted FindingKind = "consumer_deleted"
	// ConsumerStalled: a stage's consumer stood still without a word.
	ConsumerStalled FindingKind = "consumer_stalled"
	// StreamRemoved: a stream is gone.
	StreamRemoved FindingKind = "stream_removed"
	// StreamRecreated: a stream is another one than before.
	StreamRecreated FindingKind = "stream_recreated"
	// StreamTruncated: a stream has lost its tail.
	StreamTruncated FindingKind = "stream_truncated"
	// StreamPurged: messages left a stream before their time.
	StreamPurged FindingKind = "stream_purged"
	// BucketRemoved: a bucket is gone.
	BucketRemoved FindingKind = "bucket_removed"
)

// SubjectFindings takes findings. It has a token less than the subjects of
// reports.
const SubjectFindings = topology.PrefixReports + "._inside"

// PublishFinding stores f. One that is stored again under the same id inside the
// dedup window has no effect.
func PublishFinding(ctx context.Context, js jetstream.JetStream, f Finding, id string) error {
	if err := store(ctx, js, SubjectFindings, f, "finding:"+id); err != nil {
		return fmt.Errorf("finding %s of %s: %w", f.Kind, f.Name, err)
	}
	return nil
}

// DecodeFinding reads a finding as it is stored. The error means that something
// else wrote it.
func DecodeFinding(data []byte) (Finding, error) {
	var f Finding
	if err := json.Unmarshal(data, &f); err != nil || f.Kind == "" {
		return Finding{}, errors.New("finding: not one of Tercel's")
	}
	return f, nil
}
