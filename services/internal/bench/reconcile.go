package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

// reconciliations measures what it costs to compare a source's list with what was
// seen: against the least that could be kept (a bare index of hashes in blocks),
// against a key for each record, and as whole runs of the reconciler.
type reconciliations struct {
	*bench
	reconciler string
	most       int // records of the largest ledger

	server *process
	url    string
	js     jetstream.JetStream
	result reconcileResult
}

// reconcileResult is what --json prints.
type reconcileResult struct {
	Compared []comparedResult `json:"compared"`
	Runs     []runResult      `json:"runs"`
	Fleet    fleetResult      `json:"fleet"`
}

// comparedResult is one way to compare, in medians.
type comparedResult struct {
	Way       string  `json:"way"`
	Records   int     `json:"records"`
	PerSecond float64 `json:"records_per_second"`
	CPU       float64 `json:"client_cpu_us_per_record"`
	Growth    float64 `json:"client_growth_mib"`
	Server    float64 `json:"server_peak_mib"`
}

var ways = []string{"ledger", "blocks", "keys"}

func (r *reconciliations) run(ctx context.Context) error {
	var err error
	if r.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.dir) }()
	for n := r.most / 100; n <= r.most; n *= 10 {
		if err := r.sizedRun(ctx, n); err != nil {
			return fmt.Errorf("%d records: %w", n, err)
		}
	}
	if err := r.withServer(ctx, "fleet", r.fleet); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	return r.print()
}

// withServer has do work on a server of its own.
func (r *reconciliations) withServer(ctx context.Context, name string, do func(context.Context) error) error {
	var err error
	if r.server, r.url, _, err = r.startServer(scenario{name: name, durability: topology.Relaxed}); err != nil {
		return err
	}
	defer r.server.stop()
	nc, err := nats.Connect(r.url, nats.Timeout(time.Minute))
	if err != nil {
		return err
	}
	defer nc.Close()
	if r.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute)); err != nil {
		return err
	}
	if err := topology.Ensure(ctx, r.js, streams(topology.Relaxed)); err != nil {
		return err
	}
	return do(ctx)
}

// sizedRun measures with a ledger of n records. What the server needs to take all
// of it in is not what is measured: it is started again.
func (r *reconciliations) sizedRun(ctx context.Context, n int) error {
	err := r.withServer(ctx, sized(n), func(ctx context.Context) error {
		if err := r.fillSeen(ctx, n); err != nil {
			return err
		}
		_, _, err := r.child(ctx, "ledger", n)
		return err
	})
	if err != nil {
		return err
	}
	return r.withServer(ctx, sized(n), func(ctx context.Context) error {
		if err := r.compare(ctx, n); err != nil {
			return err
		}
		return r.wholeRuns(ctx, n)
	})
}

// fillSeen stores the events of all records that were seen, the yardsticks'
// blocks and keys.
func (r *reconciliations) fillSeen(ctx context.Context, n int) error {
	seen := make([]int, 0, n)
	for i := range n {
		if !unseen(i) {
			seen = append(seen, i)
		}
	}
	err := fill(ctx, r.js, len(seen), func(i int) *nats.Msg {
		at := listedAt(seen[i])
		ev := event.Event{
			ID: listedID(seen[i]), Source: sized(n), Account: event.NoAccount, Type: "order.paid", Origin: event.Webhook, Time: at, ReceivedAt: at,
			ContentType: "application/json", Resource: "order", RecordID: listedID(seen[i]), Version: event.TimeVersion(at), ObservedAt: at, TriggerSequence: 1,
		}
		return &nats.Msg{Subject: ev.EnrichedSubject(), Header: ev.Header(), Data: []byte(`{"trigger":null,"record":{}}`)}
	})
	if err != nil {
		return err
	}
	blocks, err := r.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: blocksBucket})
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
	if _, err := r.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: keysBucket}); err != nil {
		return err
	}
	keyed := seen[:min(len(seen), maxKeys-maxKeys/1000)] // those among the first maxKeys
	return fill(ctx, r.js, len(keyed), func(i int) *nats.Msg {
		return &nats.Msg{Subject: "$KV." + keysBucket + "." + listedID(keyed[i]), Data: []byte(event.TimeVersion(listedAt(keyed[i])))}
	})
}

// compare has the ways compare in turns, each in a process of its own.
func (r *reconciliations) compare(ctx context.Context, n int) error {
	turns := map[string][]turn{}
	for range r.rounds {
		for _, way := range ways {
			r.server.resetPeak()
			c, usage, err := r.child(ctx, way, n)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			if want := c.Records / 1000; c.Missing != want {
				return fmt.Errorf("%s: %d missing records found, want %d", way, c.Missing, want)
			}
			cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
			turns[way] = append(turns[way], turn{
				rate: float64(c.Records) / c.Took.Seconds(), app: float64(cpu.Nanoseconds()) / 1e3 / float64(c.Records), peak: c.Growth, server: r.server.peakMiB(),
			})
		}
	}
	for _, way := range ways {
		r.result.Compared = append(r.result.Compared, comparedResult{
			Way: way, Records: n, PerSecond: median(turns[way], perSecond), CPU: median(turns[way], func(t turn) float64 { return t.app }),
			Growth: median(turns[way], func(t turn) float64 { return t.peak }),
			Server: median(turns[way], func(t turn) float64 { return t.server }),
		})
	}
	return nil
}

// child compares in a process of its own.
func (r *reconciliations) child(ctx context.Context, way string, n int) (c comparison, usage *syscall.Rusage, err error) {
	cmd, err := r.self("-role", "compare", "-way-to-compare", way, "-nats", r.url, "-records", fmt.Sprint(n))
	if err != nil {
		return c, nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return c, nil, errors.Join(err, ctx.Err())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return c, nil, errors.New("no usage of resources on " + runtime.GOOS)
	}
	return c, usage, json.Unmarshal(out, &c)
}

// print writes the results as Markdown, and as JSON for machines.
func (r *reconciliations) print() error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(out, "| compared by\t| records\t| records/s\t| ledger to this\t| client CPU µs/record\t| client growth\t| server peak\t|")
	fmt.Fprintln(out, "|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|")
	ledgers := map[int]float64{}
	for _, c := range r.result.Compared {
		if c.Way == "ledger" {
			ledgers[c.Records] = c.PerSecond
		}
		fmt.Fprintf(out, "| %s\t| %d\t| %.0f\t| %.2f\t| %.2f\t| %.0f MiB\t| %.0f MiB\t|\n", c.Way, c.Records, c.PerSecond,
			ledgers[c.Records]/c.PerSecond, c.CPU, c.Growth, c.Server)
	}
	fmt.Fprintln(out, "\n| run of the reconciler\t| ledger\t| listed\t| took\t| records/s\t| API calls\t| JetStream requests\t| messages stored\t| peak RSS\t| server peak\t|")
	fmt.Fprintln(out, "|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|")
	for _, u := range r.result.Runs {
		fmt.Fprintf(out, "| %s\t| %d\t| %d\t| %s\t| %.0f\t| %.1f\t| %.1f\t| %.1f\t| %.0f MiB\t| %.0f MiB\t|\n", u.Name, u.Ledger, u.Listed, u.Took.Round(time.Millisecond),
			u.PerSecond, u.Calls, u.Requests, u.Stored, u.Peak, u.Server)
	}
	f := r.result.Fleet
	fmt.Fprintf(out, "\n%d accounts: first runs within %s, at most %d requests to the API at once and %d in a second; at rest %.1f JetStream requests and %.1f stored messages a second; %.0f MiB.\n",
		f.Accounts, f.Spread.Round(time.Millisecond), f.AtOnce, f.InASecond, f.RestRequests, f.RestStored, f.Peak)
	if err := out.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r.result)
}
