// Command chaos harms a whole pipeline of real processes while a provider sends it
// webhooks, and then holds both ends against each other: is anything lost, was
// anything done twice, did anything go back to an older version, is anything there
// that had been refused?
//
// It runs three NATS servers as one cluster, two of each service but one sink, a
// PostgreSQL server, and the simulated provider with its book; connections between
// them go over links that can fail. It plays every fault of [faults] at least once, in an
// order that the seed decides, and goes on until its time is over. After each it
// waits until every process is ready and a new webhook has come through, which is
// told as the time to recover.
//
// It prints what happens, then a table with the seed, and ends with exit code 1 if
// anything is not as promised. Run it with scripts/chaos.
//
// With --soak it lets the pipeline live at a modest rate with a gentle fault every
// few minutes, and tells whether what it takes grows, see soak.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	seed    uint64
	time    time.Duration
	rate    float64
	only    string
	list    bool
	some    bool
	keep    bool
	json    string
	soak    bool
	recover time.Duration
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	all := faults()
	if o.soak {
		all = gentle()
	}
	chosen, err := choose(all, o.only)
	if err != nil {
		return err
	}
	if o.list {
		for _, f := range chosen {
			fmt.Fprintln(out, f.name)
		}
		return nil
	}
	return play(ctx, o, chosen, out)
}

func parse(args []string) (o options, err error) {
	set := flag.NewFlagSet("chaos", flag.ContinueOnError)
	set.Uint64Var(&o.seed, "seed", 0, "what decides the order and the parameters of faults and what the provider does; 0 is any, which is told")
	set.DurationVar(&o.time, "time", 2*time.Minute, "for how long faults are played; each at least once, even if that takes longer")
	set.BoolVar(&o.some, "some", false, "end when the time is over, even if some faults were not played")
	set.Float64Var(&o.rate, "rate", 0, "changes a second at the source; 0 is half of what the pipeline was found to take")
	set.StringVar(&o.only, "only", "", "play only faults whose names match, such as 'kill*'; several patterns are separated by |")
	set.BoolVar(&o.list, "list", false, "list the faults and exit")
	set.BoolVar(&o.keep, "keep", false, "keep the folder with logs and stores, which stays anyway when something is wrong")
	set.StringVar(&o.json, "json", "", "a file to write the table to as JSON")
	set.BoolVar(&o.soak, "soak", false, "let the pipeline live with a gentle fault now and then, and tell whether what it takes grows")
	set.DurationVar(&o.recover, "recover", 3*time.Minute, "the longest time to recover from a fault")
	if err := set.Parse(args); err != nil {
		return options{}, err
	}
	switch {
	case set.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	case o.time <= 0 || o.recover <= 0:
		return options{}, errors.New("--time and --recover: want more than 0s")
	case o.rate < 0:
		return options{}, errors.New("--rate: want a number of changes a second")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1 // easy to type
	}
	return o, nil
}

// choose keeps those faults whose names match one of the patterns of only, each of
// which must match some.
func choose(all []fault, only string) (chosen []fault, err error) {
	if only == "" {
		return all, nil
	}
	wanted := make([]bool, len(all))
	for _, pattern := range patterns(only) {
		some := false
		for i, f := range all {
			ok, err := path.Match(pattern, f.name)
			if err != nil {
				return nil, fmt.Errorf("--only %q: %w", pattern, err)
			}
			some, wanted[i] = some || ok, wanted[i] || ok
		}
		if !some {
			return nil, fmt.Errorf("--only %q: no fault is called so; --list shows them", pattern)
		}
	}
	for i, f := range all {
		if wanted[i] {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}
