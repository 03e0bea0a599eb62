package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/ledger"
)

// Buckets of the yardsticks.
const (
	blocksBucket = "bench_blocks"
	keysBucket   = "bench_keys"
	// perBlock is how many records a bare block has.
	perBlock = 4096
	// maxKeys is how many records have a key of their own: a million of them would
	// take the server's memory, and the rate is the same.
	maxKeys = 20_000
	// reconcilerGCPercent is what the reconciler runs with.
	reconcilerGCPercent = 50
)

// comparison is what a child tells that compares listed records with what was
// seen: of missing ones, one of a thousand, it must find exactly those.
type comparison struct {
	Records int           `json:"records"`
	Missing int           `json:"missing"`
	Took    time.Duration `json:"took"`
	// Peak is the most memory that the process had, and Growth by how much that is
	// more than it had when it was connected, in MiB.
	Peak   float64 `json:"peak"`
	Growth float64 `json:"growth"`
}

// compareAs compares records in one of the ways and prints what it took. All of
// them get nothing but the listed ids and versions, and read what they compare
// them with first.
func compareAs(ctx context.Context, p part, compare func(context.Context, jetstream.JetStream, int) (comparison, error)) error {
	nc, err := nats.Connect(p.NATS, nats.Timeout(time.Minute))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	if err != nil {
		return err
	}
	debug.SetGCPercent(reconcilerGCPercent)
	began := time.Now()
	base := ownPeak()
	c, err := compare(ctx, js, p.Records)
	if err != nil {
		return err
	}
	c.Took, c.Peak = time.Since(began), ownPeak()
	c.Growth = c.Peak - base
	return json.NewEncoder(os.Stdout).Encode(c)
}

// ownPeak is the most memory that this process has had at once, in MiB.
func ownPeak() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return mib(kib << 10)
		}
	}
	return 0
}

// listedID is the id of a listed record, and listedVersion its version.
func listedID(i int) string { return "rec_" + strconv.Itoa(i) }

func listedAt(i int) time.Time { return time.Unix(1_760_000_000+int64(i), 0) }

// unseen reports whether a listed record was never seen.
func unseen(i int) bool { return i%1000 == 999 }

func compareLedger(ctx context.Context, js jetstream.JetStream, n int) (comparison, error) {
	missing := 0
	l, err := ledger.Open(ctx, js, sized(n), event.NoAccount, "order")
	if err != nil {
		return comparison{}, err
	}
	if _, err := l.CatchUp(ctx); err != nil {
		return comparison{}, err
	}
	for i := range n {
		switch v := l.Lookup(listedID(i), event.TimeVersion(listedAt(i))); {
		case v == ledger.Missed && unseen(i):
			missing++
		case v != ledger.Matched:
			return comparison{}, fmt.Errorf("%s is %s", listedID(i), v)
		}
	}
	return comparison{Records: n, Missing: missing}, nil
}

// hashed is what a bare block keeps of a record: hash of its id and version.
func hashed(i int) uint64 {
	sum := sha256.Sum256([]byte(listedID(i) + " " + string(event.TimeVersion(listedAt(i)))))
	return binary.BigEndian.Uint64(sum[:])
}

func compareBlocks(ctx context.Context, js jetstream.JetStream, n int) (comparison, error) {
	missing := 0
	kv, err := js.KeyValue(ctx, blocksBucket)
	if err != nil {
		return comparison{}, err
	}
	w, err := kv.Watch(ctx, sized(n)+".*")
	if err != nil {
		return comparison{}, err
	}
	defer func() { _ = w.Stop() }()
	index := make(map[uint64]struct{}, n)
	for e := range w.Updates() {
		if e == nil {
			break
		}
		for b := e.Value(); len(b) >= 8; b = b[8:] {
			index[binary.BigEndian.Uint64(b)] = struct{}{}
		}
	}
	for i := range n {
		if _, there := index[hashed(i)]; !there {
			missing++
		}
	}
	return comparison{Records: n, Missing: missing}, nil
}

func compareKeys(ctx context.Context, js jetstream.JetStream, n int) (comparison, error) {
	n = min(n, maxKeys)
	kv, err := js.KeyValue(ctx, keysBucket)
	if err != nil {
		return comparison{}, err
	}
	absent := make([]bool, n)
	var all errgroup.Group
	all.SetLimit(64)
	for i := range n {
		all.Go(func() error {
			_, err := kv.Get(ctx, listedID(i))
			absent[i] = errors.Is(err, jetstream.ErrKeyNotFound)
			if absent[i] {
				return nil
			}
			return err
		})
	}
	err = all.Wait()
	missing := 0
	for _, a := range absent {
		if a {
			missing++
		}
	}
	return comparison{Records: n, Missing: missing}, err
}

// sized is the source whose ledger has about n records.
func sized(n int) string { return "s" + strconv.Itoa(n) }
