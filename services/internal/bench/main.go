// Command bench measures every stage of Tercel, each against its yardstick: the
// smallest honest program that does the stage's job, on the same server, at the
// same durability, in turns within one run. What counts are the ratios; rates
// depend on the machine, and what group commits are worth depends on its disk.
//
// Server, stage, yardstick and source API are processes of their own; the load
// comes from this one and isn't counted. A maximum is measured with as many
// requests or messages as are taken, latencies at half of it, at random times
// that don't depend on the answers and counted from those times: nothing that
// waits is left out. Bodies are unique, signed and of 1.5 to 3 KiB; of the
// requests 2 % are repeats and 1 % forged.
//
// It proves each turn, and ends with exit code 1 if anything accepted is missing,
// anything is there twice, a forgery is let in, or a comparison or a timeline tells
// something else than what was stored. Two have no proof, since they end in the middle
// of their work: services with many events waiting, and the yardstick that writes row
// by row.
//
// Run it with scripts/bench, which builds the programs. It reads /proc and makes
// the kernel hold syncs, so it needs Linux.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// scenario is a part of the whole measurement.
type scenario interface {
	run(ctx context.Context, l *lab) error
}

// named is a scenario with what is said of it.
type named struct {
	name, doc string
	about     time.Duration // what it takes
	scenario
}

// scenarios are in the order in which they run.
var scenarios = []named{
	{"ingress", "webhooks until answered, against a bare handler that awaits one PubAck each", 4 * time.Minute, intake{}},
	{"enricher", "triggers passed on or completed by an API, against bare loops", 7 * time.Minute, enrichment{}},
	{"sink", "events until committed in PostgreSQL, against a bare pipelined loop", 3 * time.Minute, delivery{}},
	{"reconcile", "a list compared with what was seen, against bare blocks and a key per record; whole runs", 3 * time.Minute, reconciliation{}},
	{"way", "webhooks until they are rows, through all services; bound, not held against anything", time.Minute, way{}},
	{"timeline", "what became of an event, asked of an index of many", 3 * time.Minute, timelines{}},
	{"waiting", "growth: enricher and sink with ever more events waiting", 2 * time.Minute, waiting{}},
	{"sources", "growth: one ingress with ever more sources", time.Minute, sources{}},
	{"replicas", "growth: enricher and sink in several processes, with a slow API", time.Minute, replicas{}},
	{"window", "growth: server and ingress with ever more ids in the dedup window", time.Minute, window{}},
}

func command(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "as" {
		var p part
		if err := json.Unmarshal([]byte(args[2]), &p); err != nil {
			return err
		}
		return roles[args[1]](ctx, p)
	}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.Usage = func() {
		fmt.Fprintln(set.Output(), "usage: scripts/bench [flags] [scenario...]\n\nIt measures the named scenarios, or all.\n\nFlags:")
		set.PrintDefaults()
	}
	list := set.Bool("list", false, "only name the scenarios, and about how long they take")
	quick := set.Bool("quick", false, "measure less and for less long: to see that it works, not for figures")
	rounds := set.Int("rounds", 3, "turns of each subject, beside the one that warms up")
	jsonFile := set.String("json", "", "write the report as JSON to this file, too")
	markdown := set.String("markdown", "", "write the report as Markdown to this file, too")
	readme := set.Bool("readme", false, "write the report into README.md and docs/performance.md, too")
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case *rounds < 1:
		return errors.New("--rounds: want at least 1")
	case *readme && set.NArg() > 0:
		return errors.New("--readme: wants all scenarios")
	}
	if *list {
		for _, s := range scenarios {
			fmt.Printf("%-10s %4s  %s\n", s.name, s.about.Truncate(time.Minute), s.doc)
		}
		return nil
	}
	chosen, err := choose(set.Args())
	if err != nil {
		return err
	}
	l := &lab{quick: *quick, rounds: *rounds}
	if *quick {
		l.rounds = 1
	}
	l.report.Quick, l.report.Rounds = l.quick, l.rounds
	failed := l.run(ctx, chosen) // what was measured before is worth reading all the same
	l.report.Machine.LoadAtEnd = loadNow()
	return errors.Join(failed, l.report.write(os.Stdout, outputs{json: *jsonFile, markdown: *markdown, readme: *readme && failed == nil}))
}

// choose returns the scenarios of these names, or all.
func choose(names []string) ([]named, error) {
	if len(names) == 0 {
		return scenarios, nil
	}
	var chosen []named
	var known []string
	for _, name := range names {
		known = known[:0]
		found := false
		for _, s := range scenarios {
			known = append(known, s.name)
			if s.name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// run runs the scenarios one after the other.
func (l *lab) run(ctx context.Context, chosen []named) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l.self, l.programs = self, filepath.Dir(self)
	if l.dir, err = os.MkdirTemp("", "tercel-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(l.dir) }()
	if l.report.Machine, err = describe(l.dir); err != nil {
		return err
	}
	for _, s := range chosen {
		began := time.Now()
		l.scenario = s.name
		l.progress("%s: %s", s.name, s.doc)
		if err := s.run(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", s.name, errors.Join(err, ctx.Err()))
		}
		l.progress("%s: done in %s", s.name, time.Since(began).Round(time.Second))
	}
	return nil
}
