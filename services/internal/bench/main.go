// Command bench measures the ingress against a yardstick: the smallest honest
// handler that does its job, which checks an HMAC and awaits one PubAck per
// event, on the same server, at the same durability, in the same run.
//
// NATS server, ingress, yardstick and load are processes of their own. Both are
// loaded in turns by a closed loop over keep-alive connections with unique,
// signed bodies of 1.5 to 3 KiB, of which 2 % are repeats. What counts are the
// ratios; rates depend on the machine. It ends with exit code 1 if any request
// is refused or what is stored isn't exactly what was answered so.
//
// Run it with scripts/bench, which builds the ingress. It reads /proc, so it
// needs Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	role := set.String("role", "", "what a child process is: server or yardstick")
	dir := set.String("dir", "", "the server's folder")
	url := set.String("nats", "", "the server's address")
	listen := set.String("listen", "", "the yardstick's address")
	level := set.String("durability", string(topology.Synced), "synced or relaxed")
	set.StringVar(&b.ingress, "ingress", "", "path of the ingress program")
	set.IntVar(&b.rounds, "rounds", 3, "turns of each")
	set.DurationVar(&b.time, "time", 1500*time.Millisecond, "length of a turn")
	if err := set.Parse(args); err != nil {
		return err
	}
	switch *role {
	case "server":
		return serve(*dir, topology.Durability(*level))
	case "yardstick":
		return yardstick(*url, *listen)
	default:
		return b.run(ctx)
	}
}

// serve runs a NATS server until its standard input ends, which it does with
// the parent process.
func serve(dir string, d topology.Durability) error {
	s, err := embednats.Start(embednats.Config{Dir: dir, Listen: "127.0.0.1:0", Durability: d})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	fmt.Println(s.URL())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
