package seen

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Note is [Index.Mark] for whoever stores messages and has no index: at maps
// their Nats-Msg-Ids to their sequences. Every index knows them once it has read
// them, within its flush. It returns when they are written.
func Note(ctx context.Context, js jetstream.JetStream, at map[string]uint64) error {
	marks := make([]mark, 0, min(len(at), maxMarks))
	for msgID, sequence := range at {
		marks = append(marks, mark{hash(msgID), sequence})
		if len(marks) == maxMarks {
			if _, err := store(ctx, js, marks, ""); err != nil {
				return fmt.Errorf("note what was stored: %w", err)
			}
			marks = marks[:0]
		}
	}
	if len(marks) == 0 {
		return nil
	}
	if _, err := store(ctx, js, marks, ""); err != nil {
		return fmt.Errorf("note what was stored: %w", err)
	}
	return nil
}

// store writes marks as one block, in the name of an index or of none, and
// returns its sequence.
func store(ctx context.Context, js jetstream.JetStream, marks []mark, writer string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg := nats.NewMsg(topology.SubjectSeen)
	if writer != "" {
		msg.Header.Set(headerWriter, writer)
	}
	msg.Data = encode(marks)
	ack, err := js.PublishMsg(ctx, msg)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}
