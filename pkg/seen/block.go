package seen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// A block is what one message of TERCEL_SEEN holds: the number of the format,
// then 12 bytes for each mark, big-endian: hash (4) and sequence (8).
const (
	format    = 1
	markBytes = 12
	maxMarks  = 4096 // in a block
)

// headerWriter names the index that has written a block.
const headerWriter = "tercel-writer"

var errBlock = errors.New("not a block of marks")

func encode(marks []mark) []byte {
	out := make([]byte, 1, 1+markBytes*len(marks))
	out[0] = format
	for _, m := range marks {
		out = binary.BigEndian.AppendUint32(out, m.hash)
		out = binary.BigEndian.AppendUint64(out, m.sequence)
	}
	return out
}

func decode(data []byte) ([]mark, error) {
	if len(data) == 0 || data[0] != format || (len(data)-1)%markBytes != 0 || len(data) > 1+markBytes*maxMarks {
		return nil, errBlock
	}
	marks := make([]mark, 0, len(data)/markBytes)
	for d := data[1:]; len(d) > 0; d = d[markBytes:] {
		marks = append(marks, mark{binary.BigEndian.Uint32(d), binary.BigEndian.Uint64(d[4:])})
	}
	return marks, nil
}

func found(m *jetstream.RawStreamMsg) Found {
	e, _ := event.FromHeader(m.Header) // as much as can be read of it
	return Found{Sequence: m.Sequence, StoredAt: m.Time, EventID: e.ID, DeliveryID: e.DeliveryID}
}

// loop writes and reads marks until Close.
func (x *Index) loop() {
	defer close(x.ended)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-x.done
		cancel()
	}()
	tick := time.NewTicker(x.cfg.Flush)
	defer tick.Stop()
	for {
		x.exchange(ctx)
		select {
		case <-tick.C:
		case <-x.done:
			last, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			x.note(x.flush(last))
			return
		}
	}
}

// Bounds of one request to the server.
const (
	requestTimeout = 4 * time.Second
	closeTimeout   = 2 * time.Second
	batchMessages  = 1000
	batchBytes     = 4 << 20
)

func (x *Index) exchange(ctx context.Context) {
	x.mu.Lock()
	x.table.expire(time.Now().Add(-x.cfg.Horizon))
	x.mu.Unlock()
	err := x.flush(ctx)
	if err == nil {
		err = x.read(ctx)
	}
	x.note(err)
}

// note logs when the exchange begins to fail and when it works again.
func (x *Index) note(err error) {
	switch closing := x.closing(); {
	case err != nil && x.healthy && !closing:
		x.deps.Log.LogAttrs(context.Background(), slog.LevelWarn, "ids of stored events can't be exchanged, late repeats may be stored again",
			slog.Any("err", err))
	case err == nil && !x.healthy:
		x.deps.Log.LogAttrs(context.Background(), slog.LevelInfo, "ids of stored events are exchanged again")
	}
	x.healthy = err == nil
}

func (x *Index) closing() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// flush writes the fresh marks. One that is written twice, because no
// acknowledgement came, does no harm.
func (x *Index) flush(ctx context.Context) error {
	for {
		x.mu.Lock()
		n := min(len(x.fresh), maxMarks)
		marks := x.fresh[:n:n]
		x.mu.Unlock()
		if n == 0 {
			return nil
		}
		sequence, err := store(ctx, x.deps.JetStream, marks, x.writer)
		if err != nil {
			return fmt.Errorf("write marks: %w", err)
		}
		switch {
		case sequence == x.next: // needn't be read
			x.next++
		case sequence < x.next: // the stream was made anew
			x.next = 1
		}
		x.mu.Lock()
		if x.fresh = x.fresh[n:]; len(x.fresh) == 0 {
			x.fresh = nil
		}
		x.mu.Unlock()
	}
}

// read takes in what others have marked since the last time, or within the
// horizon the first time.
func (x *Index) read(ctx context.Context) error {
	for {
		from := jetstreamext.GetBatchSeq(max(x.next, 1))
		if x.next == 0 {
			from = jetstreamext.GetBatchStartTime(time.Now().Add(-x.cfg.Horizon))
		}
		n, err := x.readBatch(ctx, from)
		if err != nil {
			return fmt.Errorf("read marks: %w", err)
		}
		if n == 0 {
			break
		}
	}
	select {
	case <-x.loaded:
	default:
		close(x.loaded)
	}
	return nil
}

// readBatch reads some blocks and returns how many.
func (x *Index) readBatch(ctx context.Context, from jetstreamext.GetBatchOpt) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(ctx, x.deps.JetStream, topology.StreamSeen, batchMessages, from,
		jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return 0, err
	}
	n := 0
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return n, err
		}
		n++
		x.next = m.Sequence + 1
		if m.Header.Get(headerWriter) == x.writer {
			continue
		}
		marks, err := decode(m.Data)
		if err != nil {
			continue // nothing in it can be trusted, and nothing depends on it
		}
		x.mu.Lock()
		for _, k := range marks {
			x.add(k, m.Time)
		}
		x.mu.Unlock()
	}
	return n, nil
}
