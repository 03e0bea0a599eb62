// Command bench measures the ingress against a yardstick: the smallest honest
// handler that does its job, which checks an HMAC and awaits one PubAck per
// event, on the same server, at the same durability, in the same run.
//
// NATS server, ingress, yardstick and load are processes of their own. Both are
// loaded in turns over keep-alive connections with unique, signed bodies of 1.5
// to 3 KiB, of which 2 % are repeats: by a closed loop as fast as they answer;
// at half of the slower one's rate, at times that don't depend on the answers;
// and the ingress by far more than it takes, for its memory. What counts are
// the ratios; rates depend on the machine, and what group commits are worth
// depends on its disk. So the synced level is measured twice, the second time
// with a server whose every sync is held for 2 ms longer (see hold_linux.go).
//
// It ends with exit code 1 if any request is refused, if one within the
// ingress's limits finds no room, or if what is stored isn't exactly what was
// answered so.
//
// With --sink it measures the sink with PostgreSQL in the same way, see
// [deliveries], with --enricher the enricher, see [enrichments], with --backlog
// the memory of both, see [backlogs], with --way the whole, see [way], and with
// --timelines how an event is found among many, see [timelines].
//
// Run it with scripts/bench, which builds both. It reads /proc and makes
// the kernel hold syncs, so it needs Linux.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("bench", flag.ExitOnError)
	b := bench{}
	role := set.String("role", "", "what a child process is: server, yardstick, batch, rows, api, fetch, pipe, get or compare")
	dir := set.String("dir", "", "the server's folder")
	url := set.String("nats", "", "the server's address")
	listen := set.String("listen", "", "the yardstick's address")
	dsn := set.String("dsn", "", "the yardstick's database")
	bare := enricherBare{}
	set.StringVar(&bare.source, "source", "", "the yardstick's source")
	set.StringVar(&bare.api, "api", "", "the yardstick's API")
	set.IntVar(&bare.workers, "workers", 64, "the yardstick's workers")
	enricher := set.String("enricher", "", "path of the enricher program, to measure that")
	sink := set.String("sink", "", "path of the sink program, to measure that")
	events := set.Int("events", 0, "how many events the sink or the enricher has in a turn, instead of the subject's own number")
	reconciler := set.String("reconciler", "", "path of the reconciler program, to measure that")
	records := set.Int("records", 1_000_000, "how many records the largest ledger has")
	compareBy := set.String("way-to-compare", "", "how a child compares")
	webhooks := set.Float64("way", 0, "how many webhooks a second are sent through all services, to measure their way")
	backlog := set.Int("backlog", 0, "how many events wait, to measure the memory of the enricher and the sink")
	stored := set.Int("timelines", 0, "how many events are stored, to measure how one of them is found")
	level := set.String("durability", string(topology.Synced), "synced or relaxed")
	set.StringVar(&b.ingress, "ingress", "", "path of the ingress program")
	set.StringVar(&b.only, "only", "", "measure only the scenarios whose names begin so")
	set.IntVar(&b.rounds, "rounds", 3, "turns of each")
	set.DurationVar(&b.time, "time", 1500*time.Millisecond, "length of a turn")
	if err := set.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 {
		return errors.New("--rounds: want at least 1")
	}
	bare.url, bare.listen = *url, *listen
	switch *role {
	case "server":
		return serve(ctx, *dir, topology.Durability(*level))
	case "yardstick":
		return yardstick(*url, *listen)
	case "batch":
		return deliverBare(ctx, *url, *dsn, *listen, writeBatch)
	case "rows":
		return deliverBare(ctx, *url, *dsn, *listen, writeRows)
	case "api":
		return serveAPI(*listen)
	case "fetch":
		return bare.run(ctx, bare.fetch)
	case "pipe":
		return bare.run(ctx, bare.pipe)
	case "get":
		return bare.run(ctx, bare.get)
	case "compare":
		return compareAs(ctx, *compareBy, *url, *records)
	}
	switch {
	case *reconciler != "":
		return (&reconciliations{bench: &b, reconciler: *reconciler, most: *records}).run(ctx)
	case *webhooks > 0:
		programs := map[string]string{"ingress": b.ingress, "enricher": *enricher, "sink": *sink}
		return (&way{bench: &b, programs: programs, rate: *webhooks, durability: topology.Durability(*level)}).run(ctx)
	case *stored > 0:
		return (&timelines{bench: &b, counts: []int{10_000, *stored}}).run(ctx)
	case *backlog > 0:
		return (&backlogs{bench: &b, enricher: *enricher, sink: *sink, most: *backlog}).run(ctx)
	case *sink != "":
		return (&deliveries{bench: &b, sink: *sink, events: cmp.Or(*events, 6000)}).run(ctx)
	case *enricher != "":
		return (&enrichments{bench: &b, enricher: *enricher, events: *events}).run(ctx)
	default:
		return b.run(ctx)
	}
}

// serve runs a NATS server until it is told to end or its standard input ends,
// which it does with the parent process. It says where the server is, and how long
// a sync takes.
func serve(ctx context.Context, dir string, d topology.Durability) error {
	s, err := embednats.Start(embednats.Config{Dir: dir, Listen: "127.0.0.1:0", Durability: d})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	sync, err := syncTime(dir)
	if err != nil {
		return err
	}
	fmt.Println(s.URL(), sync)
	ctx, end := signal.NotifyContext(ctx, syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	<-ctx.Done()
	return nil
}

// syncTime is the median of what it takes to append 4 KiB to a file in dir and
// have them on disk.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	times := make([]time.Duration, 21)
	for i := range times {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(began).Round(10 * time.Microsecond)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
