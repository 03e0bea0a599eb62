package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type dlqCmd struct {
	List   dlqListCmd   `cmd:"" help:"List dead letters, oldest first."`
	Show   dlqShowCmd   `cmd:"" help:"Show one dead letter with its payload."`
	Replay dlqReplayCmd `cmd:"" help:"Send dead letters into the pipeline again."`
}

// letterFlags choose dead letters.
type letterFlags struct {
	Source string `help:"Only of this source." placeholder:"NAME"`
	Stage  string `help:"Only of this stage." enum:",enrich,deliver" default:"" placeholder:"enrich|deliver"`
}

func (f letterFlags) filter() deadletter.Filter {
	return deadletter.Filter{Source: f.Source, Stage: f.Stage}
}

type dlqListCmd struct {
	pipelineFlags
	letterFlags
	All   bool   `help:"Include those that were replayed."`
	Limit int    `help:"At most this many." default:"100"`
	After uint64 `help:"Only those behind this one." placeholder:"N"`
	JSON  bool   `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (dlqListCmd) Help() string {
	return `Example:
  tercel dlq list --source stripe`
}

// Run runs the command.
func (c dlqListCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	f := c.filter()
	f.Limit, f.After = c.Limit, c.After
	if !c.All {
		f.States = []deadletter.State{deadletter.StateOpen}
	}
	rules, err := redact.Load(a.ctx, nc.js)
	if err != nil {
		return err
	}
	t := newTable(a.out, "n", "dead since", "stage", "event", "type", "attempts", "state", "reason")
	n := 0
	for l, err := range deadletter.List(a.ctx, nc.js, f) {
		if err != nil {
			return err
		}
		if l, err = l.RedactedIn(a.ctx, nc.js, rules); err != nil {
			return err
		}
		n++
		if c.JSON {
			if err := printLine(a.out, l); err != nil {
				return err
			}
			continue
		}
		t.row(l.Sequence, stamp(l.DeadAt), l.Stage+" "+l.Name, orDash(l.Event.ID), orDash(l.Event.Type), l.Reason.Attempts,
			l.State, string(l.Reason.Class)+": "+shorten(l.Reason.Message, 120))
	}
	if c.JSON {
		return nil
	}
	if n == 0 {
		fmt.Fprintln(a.err, "no dead letters")
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	if n == c.Limit {
		fmt.Fprintf(a.err, "%d shown; there may be more, see --limit and --after\n", n)
	}
	return nil
}

type dlqShowCmd struct {
	pipelineFlags
	N    uint64 `arg:"" help:"The dead letter's number in the list."`
	JSON bool   `name:"json" help:"Print it as one JSON object."`
}

// Help is shown by --help.
func (dlqShowCmd) Help() string {
	return `Example:
  tercel dlq show 42 --json`
}

// Run runs the command.
func (c dlqShowCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	rules, err := redact.Load(a.ctx, nc.js)
	if err != nil {
		return err
	}
	l, err := deadletter.Get(a.ctx, nc.js, c.N)
	if err != nil {
		return err
	}
	l = l.Redacted(rules)
	if c.JSON {
		return printJSON(a.out, l)
	}
	t := newTable(a.out)
	t.row("dead letter", l.Sequence)
	t.row("state", l.State)
	if l.Replayed != nil {
		t.row("replayed", fmt.Sprintf("%s as %s, %s %d", stamp(l.Replayed.At), l.Replayed.MsgID, l.Replayed.Stream, l.Replayed.Sequence))
	}
	t.row("event", orDash(l.Event.ID))
	t.row("type", orDash(l.Event.Type))
	t.row("source", orDash(l.Event.Source)+" "+l.Event.Account)
	t.row("stage", l.Stage+" "+l.Name)
	t.row("reason", string(l.Reason.Class)+": "+l.Reason.Message)
	t.row("attempts", l.Reason.Attempts)
	t.row("first", stamp(l.Reason.FirstAt))
	t.row("last", stamp(l.Reason.LastAt))
	t.row("trace", orDash(l.Reason.TraceID))
	t.row("original", fmt.Sprintf("%s %d, %s", l.Stream, l.OriginalSequence, orDash(l.Subject)))
	if err := t.flush(); err != nil {
		return err
	}
	if l.PayloadMissing {
		fmt.Fprintln(a.out, "\nthe payload is gone: the stream no longer had it when the letter was made")
		return nil
	}
	_, err = fmt.Fprintf(a.out, "\n%s\n", printable(string(l.Payload)))
	return err
}

type dlqReplayCmd struct {
	pipelineFlags
	letterFlags
	N     []uint64 `arg:"" optional:"" help:"Numbers of dead letters."`
	All   bool     `help:"Every open one that --source and --stage choose."`
	Rate  int      `help:"At most this many a second." default:"100"`
	Force bool     `help:"Also those that were replayed before."`
	Yes   bool     `short:"y" help:"Don't ask."`
	JSON  bool     `name:"json" help:"Print what was sent as one JSON object."`
}

// Help is shown by --help.
func (dlqReplayCmd) Help() string {
	return `The original message goes to its own subject again, as the same event under a fresh message id:
what has had its effect already has no second one. The dead letter stays and is marked.

Examples:
  tercel dlq replay 42
  tercel dlq replay --all --source stripe --rate 50`
}

type replayOutcome struct {
	Replayed []uint64          `json:"replayed"`
	Failed   map[uint64]string `json:"failed"`
}

// Run runs the command.
func (c dlqReplayCmd) Run(a *app) error {
	if (len(c.N) == 0) == !c.All {
		return exitCode{boot.Usage, "name dead letters by number, or choose all open ones with --all"}
	}
	if c.Rate < 1 {
		return exitCode{boot.Usage, fmt.Sprintf("--rate %d: want at least 1", c.Rate)}
	}
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	numbers := c.N
	if c.All {
		if numbers, err = c.plan(a, nc); err != nil {
			return err
		}
	}
	if len(numbers) > 1 && !c.Yes {
		if err := confirm(a, fmt.Sprintf("Replay %d dead letters?", len(numbers))); err != nil {
			return err
		}
	}
	done := replayOutcome{Replayed: []uint64{}, Failed: map[uint64]string{}}
	tick := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer tick.Stop()
	for i, n := range numbers {
		if i > 0 {
			select {
			case <-tick.C:
			case <-a.ctx.Done():
				return fmt.Errorf("stopped after %d of %d: %w", i, len(numbers), a.ctx.Err())
			}
		}
		if r, err := deadletter.Replay(a.ctx, nc.js, n, deadletter.ReplayOptions{Force: c.Force}); err != nil {
			done.Failed[n] = err.Error()
			fmt.Fprintf(a.err, "%v%s\n", err, forceHint(err))
		} else {
			done.Replayed = append(done.Replayed, n)
			if !c.JSON {
				fmt.Fprintf(a.out, "replayed %d as %s, %s %d\n", n, r.MsgID, r.Stream, r.Sequence)
			}
		}
	}
	if c.JSON {
		if err := printJSON(a.out, done); err != nil {
			return err
		}
	}
	if len(done.Failed) > 0 {
		return exitCode{boot.Failed, fmt.Sprintf("%d of %d could not be replayed", len(done.Failed), len(numbers))}
	}
	return nil
}

// plan lists the open letters that are chosen and says what they are.
func (c dlqReplayCmd) plan(a *app, nc *connection) ([]uint64, error) {
	f := c.filter()
	if !c.Force {
		f.States = []deadletter.State{deadletter.StateOpen}
	}
	var numbers []uint64
	var oldest, newest time.Time
	for l, err := range deadletter.List(a.ctx, nc.js, f) {
		if err != nil {
			return nil, err
		}
		if numbers = append(numbers, l.Sequence); oldest.IsZero() || l.DeadAt.Before(oldest) {
			oldest = l.DeadAt
		}
		if l.DeadAt.After(newest) {
			newest = l.DeadAt
		}
	}
	fmt.Fprintf(a.err, "%d dead letters, from %s to %s\n", len(numbers), stamp(oldest), stamp(newest))
	return numbers, nil
}

func forceHint(err error) string {
	if errors.Is(err, deadletter.ErrReplayed) {
		return "; send it once more with --force"
	}
	return ""
}

// confirm asks before something that changes more than one event. Without a
// terminal to ask at it refuses.
func confirm(a *app, question string) error {
	nobody := exitCode{boot.Usage, question + " There is no terminal to ask at; say --yes"}
	if !isTerminal(a.in) {
		return nobody
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(a.in, &answer); errors.Is(err, io.EOF) { // /dev/null looks like a terminal
		fmt.Fprintln(a.err)
		return nobody
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return exitCode{boot.Failed, "nothing was done"}
	}
	return nil
}
