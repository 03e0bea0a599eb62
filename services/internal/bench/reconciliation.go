package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
)

// reconciliation measures what it costs to compare a source's list with what was
// seen, with ever larger ledgers: against the least that could be kept (a bare
// index of hashes in blocks), against a key for each record, and as whole runs of
// the reconciler.
type reconciliation struct{}

func (r reconciliation) run(ctx context.Context, l *lab) error {
	for _, c := range []struct {
		level
		records int
	}{{relaxed, 10_000}, {synced, 10_000}, {relaxed, 100_000}, {relaxed, 1_000_000}} {
		if l.quick && c.records > 10_000 {
			continue
		}
		err := l.with(ctx, c.level, func(s *stand) error { return r.sized(ctx, s, c.records) })
		if err != nil {
			return err
		}
	}
	return l.with(ctx, relaxed, func(s *stand) error { return r.fleet(ctx, s) })
}

// sized measures with a ledger of n records. What the server needs to take all
// of it in is not what is measured: it is started again.
func (r reconciliation) sized(ctx context.Context, s *stand, n int) error {
	if err := r.fillSeen(ctx, s, n); err != nil {
		return err
	}
	if _, err := r.compared(ctx, s, "ledger", n); err != nil {
		return err
	}
	s.stopServer()
	if err := s.startServer(ctx); err != nil {
		return err
	}
	var subjects []subject
	for _, way := range []struct{ name, role string }{{"ledger", "ledger"}, {"bare blocks", "blocks"}, {"a key per record", "keys"}} {
		subjects = append(subjects, subject{way.name, func(ctx context.Context) (figures, error) { return r.compared(ctx, s, way.role, n) }})
	}
	if _, err := s.measure(ctx, fmt.Sprintf("%d records compared", n), s.rounds, subjects...); err != nil {
		return err
	}
	return r.wholeRuns(ctx, s, n)
}

// fillSeen stores the events of all records that were seen, the yardsticks'
// blocks and keys.
func (r reconciliation) fillSeen(ctx context.Context, s *stand, n int) error {
	seen := make([]int, 0, n)
	for i := range n {
		if !unseen(i) {
			seen = append(seen, i)
		}
	}
	err := s.fill(ctx, len(seen), func(i int) *nats.Msg {
		at := listedAt(seen[i])
		ev := event.Event{
			ID: listedID(seen[i]), Source: sized(n), Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, Time: at, ReceivedAt: at,
			ContentType: "application/json", Resource: "order", RecordID: listedID(seen[i]), Version: event.TimeVersion(at), ObservedAt: at, TriggerSequence: 1,
		}
		m := nats.NewMsg(ev.EnrichedSubject())
		m.Header, m.Data = ev.Header(), []byte(`{"trigger":null,"record":{}}`)
		return m
	})
	if err != nil {
		return err
	}
	blocks, err := s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: blocksBucket})
	if err != nil {
		return err
	}
	var block []byte
	for part := range slices.Chunk(seen, perBlock) {
		block = block[:0]
		for _, i := range part {
			block = binary.BigEndian.AppendUint64(block, hashed(i))
		}
		if _, err := blocks.Put(ctx, fmt.Sprintf("%s.%d", sized(n), part[0]), block); err != nil {
			return err
		}
	}
	keys, err := s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: keysBucket})
	if err != nil {
		return err
	}
	for _, i := range seen[:min(len(seen), maxKeys-maxKeys/1000)] { // those among the first maxKeys
		_, err := s.js.PublishAsync("$KV."+keys.Bucket()+"."+listedID(i), []byte(event.TimeVersion(listedAt(i))), jetstream.WithStallWait(time.Minute))
		if err != nil {
			return err
		}
	}
	return s.published(ctx)
}

// compared has a child compare in one of the ways, and proves what it found.
func (r reconciliation) compared(ctx context.Context, s *stand, role string, n int) (figures, error) {
	resetPeaks(proc{Process: s.server})
	before, err := s.server.Usage()
	if err != nil {
		return figures{}, err
	}
	text, err := json.Marshal(part{NATS: s.url, Records: n})
	if err != nil {
		return figures{}, err
	}
	cmd := exec.CommandContext(ctx, s.self, "as", role, string(text))
	out, err := cmd.Output()
	if err != nil {
		return figures{}, err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return figures{}, errors.New("no usage of resources on " + runtime.GOOS)
	}
	var c comparison
	if err := json.Unmarshal(out, &c); err != nil {
		return figures{}, err
	}
	if want := c.Records / 1000; c.Missing != want {
		return figures{}, fmt.Errorf("%d missing records found, want %d", c.Missing, want)
	}
	s.report.Verified.add(verified{Compared: c.Records})
	after, err := s.server.Usage()
	if err != nil {
		return figures{}, err
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1e5 / float64(c.Records) }
	own := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return figures{
		Rate: float64(c.Records) / c.Took.Seconds(), Own: each(own), CPU: each(own + after.CPU - before.CPU), Peak: c.Peak, ServerPeak: mib(after.Peak),
		Extra: []extra{{"peak less what it began with", c.Growth, "MiB"}},
	}, nil
}
