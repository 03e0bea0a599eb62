package main

import (
	"fmt"
	"strings"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// paceFlags are how a replay goes.
type paceFlags struct {
	Rate        uint32 `help:"At most this many a second." default:"100"`
	MaxFailures uint32 `help:"End it when so many could not be sent or came back." default:"10"`
	DryRun      bool   `help:"Only show the plan."`
	Yes         bool   `short:"y" help:"Don't ask."`
	JSON        bool   `name:"json" help:"Print the plan and then the progress, one JSON object a line; the last is the result."`
}

// agree shows the plan of a replay, and asks before one that sends more than one
// message. It reports whether to go on.
func (f paceFlags) agree(a *app, p *adminv1.ReplayPlan, limit uint32) (bool, error) {
	if f.JSON {
		if err := printMessageLine(a.out, p); err != nil {
			return false, err
		}
	} else {
		printPlan(a, p)
	}
	sent := p.GetCount()
	if limit > 0 {
		sent = min(sent, uint64(limit))
	}
	switch {
	case f.DryRun:
		return false, nil
	case p.GetCount() == 0:
		return false, exitCode{boot.Failed, nothingPlanned(p)}
	case sent > 1 && !f.Yes:
		return true, confirm(a, fmt.Sprintf("Replay %d messages?", sent))
	}
	return true, nil
}

func nothingPlanned(p *adminv1.ReplayPlan) string {
	switch {
	case p.GetReplayedBefore() > 0:
		return fmt.Sprintf("nothing to replay: %d were replayed before; --force sends them once more", p.GetReplayedBefore())
	case p.GetMissing() > 0:
		return fmt.Sprintf("nothing to replay: the payloads of %d are lost", p.GetMissing())
	}
	return "nothing to replay"
}

// printPlan says what a replay would do.
func printPlan(a *app, p *adminv1.ReplayPlan) {
	var destinations []string
	for _, d := range p.GetDestinations() {
		text := fmt.Sprintf("%s %d", d.GetDestination(), d.GetCount())
		if d.GetVersioned() {
			text += " (which keeps the newest version, so that a repeat has no effect)"
		}
		destinations = append(destinations, text)
	}
	fmt.Fprintf(a.err, "plan: %d messages, from %s to %s; to: %s\n", p.GetCount(), stamp(p.GetOldest()), stamp(p.GetNewest()),
		printable(orDash(strings.Join(destinations, ", "))))
	if n := p.GetReplayedBefore(); n > 0 {
		fmt.Fprintf(a.err, "%d of those chosen were replayed before\n", n)
	}
	if n := p.GetMissing(); n > 0 {
		fmt.Fprintf(a.err, "%d can't be sent: their payload is lost\n", n)
	}
	if p.GetTruncated() {
		fmt.Fprintln(a.err, "the plan is cut: there are more, which another replay sends")
	}
}

// outcome is what became of a replay's messages, for people. fate is what is
// known of those that were sent, or empty.
func outcomeText(p *adminv1.ReplayProgress, fate string) string {
	text := fmt.Sprintf("%d/%d sent", p.GetReplayed(), p.GetPlanned())
	if n := p.GetSkipped(); n > 0 {
		text += fmt.Sprintf(", %d no longer stored", n)
	}
	if n := p.GetFailed(); n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	return text + fate
}

// replayStages are where a replay can begin.
var replayStages = map[string]adminv1.ReplayStage{
	"verify": adminv1.ReplayStage_REPLAY_STAGE_VERIFY, "enrich": adminv1.ReplayStage_REPLAY_STAGE_ENRICH,
	"deliver": adminv1.ReplayStage_REPLAY_STAGE_DELIVER,
}

// fateText says what is known of the messages that were sent.
func fateText(m interface {
	GetProgress() *adminv1.ReplayProgress
	GetDelivered() uint64
	GetDeadAgain() uint64
	GetFiltered() uint64
},
) string {
	text := fmt.Sprintf(", %d delivered, %d dead again", m.GetDelivered(), m.GetDeadAgain())
	if n := m.GetFiltered(); n > 0 {
		text += fmt.Sprintf(", %d left out", n)
	}
	if n := m.GetProgress().GetNotRepeated(); n > 0 {
		text += fmt.Sprintf("; %d had a check that can't be made again", n)
	}
	return text
}

// share is how much of a replay is done, where done of its messages are.
func share(p *adminv1.ReplayProgress, done uint64) float64 {
	if p.GetPlanned() == 0 {
		return 1
	}
	return float64(done) / float64(p.GetPlanned())
}

// printFailures names messages that could not be replayed.
func printFailures(a *app, b *bar, all []*adminv1.ReplayFailure) {
	for _, f := range all {
		b.end()
		fmt.Fprintf(a.err, "%s %s: %s\n", place(f.GetPosition()), printable(f.GetEventId()), printable(f.GetError()))
		for _, c := range f.GetChecks() {
			fmt.Fprintf(a.err, "  %s %s: %s\n", printable(c.GetCheck()), printable(c.GetResult()), printable(c.GetDetail()))
		}
	}
}

// ended says how a replay ended, as an error if not all of it was done.
func ended(p *adminv1.ReplayProgress, deadAgain uint64) error {
	var why []string
	if s := p.GetStoppedBecause(); s != "" {
		why = append(why, "stopped: "+s)
	}
	if n := p.GetFailed(); n > 0 {
		why = append(why, fmt.Sprintf("%d could not be replayed", n))
	}
	if n := p.GetSkipped(); n > 0 {
		why = append(why, fmt.Sprintf("%d are no longer stored", n))
	}
	if deadAgain > 0 {
		why = append(why, fmt.Sprintf("%d became dead letters again", deadAgain))
	}
	switch {
	case !p.GetDone():
		return exitCode{boot.Failed, "the replay was broken off; what was sent stays sent"}
	case len(why) > 0:
		return exitCode{boot.Failed, strings.Join(why, "; ")}
	}
	return nil
}
