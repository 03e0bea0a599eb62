package main

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type dlqCmd struct {
	Groups  dlqGroupsCmd  `cmd:"" help:"List dead letters by their cause, the latest first."`
	List    dlqListCmd    `cmd:"" help:"List dead letters, newest first."`
	Show    dlqShowCmd    `cmd:"" help:"Show one dead letter with its payload."`
	Replay  dlqReplayCmd  `cmd:"" help:"Send dead letters into the pipeline again."`
	Edit    dlqEditCmd    `cmd:"" help:"Put an edited payload beside a dead letter, for its replay."`
	Discard dlqDiscardCmd `cmd:"" help:"Mark dead letters as dealt with, without sending anything."`
}

// letterFlags choose dead letters.
type letterFlags struct {
	timeFlags
	Source      string `help:"Only of this source." placeholder:"NAME"`
	Account     string `help:"Only of this account." placeholder:"NAME"`
	Type        string `help:"Only of this type; * stands for a part between dots, > for the rest." placeholder:"TYPE"`
	Stage       string `help:"Only of this stage." enum:",enrich,deliver" default:"" placeholder:"enrich|deliver"`
	Destination string `help:"Only what this destination didn't take." placeholder:"NAME"`
	Group       string `help:"Only of this group, by its fingerprint." placeholder:"ID"`
	Event       string `help:"Only of this event, or of the delivery with the provider's id." placeholder:"ID"`
}

// empty reports whether they choose everything.
func (f letterFlags) empty() bool { return f == letterFlags{} }

func (f letterFlags) filter(numbers []uint64, states ...adminv1.DeadLetterState) (*adminv1.DeadLetterFilter, error) {
	since, until, err := f.times()
	return &adminv1.DeadLetterFilter{
		Source: f.Source, Account: f.Account, Type: f.Type, Stage: f.Stage, Destination: f.Destination, Fingerprint: f.Group, EventId: f.Event,
		Since: since, Until: until, Sequence: numbers, State: states,
	}, err
}

// open is the state of letters that nobody has dealt with.
const open = adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN

// states are those that a list shows.
func states(all bool) []adminv1.DeadLetterState {
	if all {
		return nil
	}
	return []adminv1.DeadLetterState{open}
}

type dlqListCmd struct {
	apiFlags
	watchFlags
	listFlags
	letterFlags
	All  bool `help:"Include those that were replayed or discarded."`
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (dlqListCmd) Help() string {
	return `Example:
  tercel dlq list --source stripe`
}

// Run runs the command.
func (c dlqListCmd) Run(a *app) error {
	f, err := c.filter(nil, states(c.All)...)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		letters, next, err := api.listLetters(a, c.listFlags, f)
		if err != nil {
			return err
		}
		defer more(a, next)
		return c.print(a, letters)
	})
}

func (p *api) listLetters(a *app, l listFlags, f *adminv1.DeadLetterFilter) ([]*adminv1.DeadLetter, string, error) {
	return list(l, func(size uint32, token string) ([]*adminv1.DeadLetter, string, error) {
		resp, err := p.letters.ListDeadLetters(a.ctx, connect.NewRequest(&adminv1.ListDeadLettersRequest{Filter: f, PageSize: size, PageToken: token}))
		if err != nil {
			return nil, "", err
		}
		return resp.Msg.GetDeadLetters(), resp.Msg.GetNextPageToken(), nil
	})
}

func (c dlqListCmd) print(a *app, letters []*adminv1.DeadLetter) error {
	t := newTable(a.out, "n", "given up", "stage", "event", "type", "attempts", "state", "group", "reason")
	for _, l := range letters {
		if c.JSON {
			if err := printMessageLine(a.out, l); err != nil {
				return err
			}
			continue
		}
		t.row(l.GetSequence(), stamp(l.GetDeadAt()), l.GetStage()+" "+l.GetName(), orDash(l.GetAttributes().GetId()),
			orDash(l.GetAttributes().GetType()), l.GetAttempts(), letterWord(l), l.GetFingerprint(), l.GetErrorClass()+": "+shorten(l.GetMessage(), 120))
	}
	switch {
	case c.JSON:
		return nil
	case len(letters) == 0:
		fmt.Fprintln(a.err, "no dead letters")
		return nil
	}
	return t.flush()
}

// letterWord says what became of a letter.
func letterWord(l *adminv1.DeadLetter) string {
	text := word(l.GetState(), "DEAD_LETTER_STATE")
	if l.GetEdited() {
		text += ", edited"
	}
	return text
}

type dlqGroupsCmd struct {
	apiFlags
	watchFlags
	listFlags
	letterFlags
	All  bool `help:"Include groups of which every letter was dealt with."`
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Help is shown by --help.
func (dlqGroupsCmd) Help() string {
	return `Letters of the same stage, source, destination and error class are one group if their messages are the same
but for ids and numbers. TREND is of the last 24 hours, a mark for each. A group that was dealt with is watched
until it has been quiet for long enough, and closed then.

Example:
  tercel dlq groups --watch`
}

// Run runs the command.
func (c dlqGroupsCmd) Run(a *app) error {
	f, err := c.filter(nil)
	if err != nil {
		return err
	}
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	var wanted []adminv1.DeadLetterGroupState // none is all
	if !c.All {
		wanted = append(wanted, adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN, adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED)
	}
	return c.watch(a, func(a *app) error {
		var ungrouped uint64
		groups, next, err := list(c.listFlags, func(size uint32, token string) ([]*adminv1.DeadLetterGroup, string, error) {
			resp, err := api.letters.ListDeadLetterGroups(a.ctx, connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{
				Filter: f, State: wanted, PageSize: size, PageToken: token,
			}))
			if err != nil {
				return nil, "", err
			}
			ungrouped = resp.Msg.GetUngrouped()
			return resp.Msg.GetGroups(), resp.Msg.GetNextPageToken(), nil
		})
		if err != nil {
			return err
		}
		defer more(a, next)
		if ungrouped > 0 {
			fmt.Fprintf(a.err, "%d letters are in none of the groups: there are too many\n", ungrouped)
		}
		return c.print(a, groups)
	})
}

func (c dlqGroupsCmd) print(a *app, groups []*adminv1.DeadLetterGroup) error {
	t := newTable(a.out, "group", "state", "open", "all", "last", "trend", "stage", "source", "reason")
	for _, g := range groups {
		if c.JSON {
			if err := printMessageLine(a.out, g); err != nil {
				return err
			}
			continue
		}
		t.row(g.GetFingerprint(), word(g.GetState(), "DEAD_LETTER_GROUP_STATE"), g.GetOpen(), g.GetTotal(), ago(g.GetLastAt()), trend(g.GetHourly()),
			strings.TrimSpace(g.GetStage()+" "+g.GetDestination()), g.GetSource(), g.GetErrorClass()+": "+shorten(g.GetMessage(), 120))
	}
	switch {
	case c.JSON:
		return nil
	case len(groups) == 0:
		fmt.Fprintln(a.err, "no dead letters")
		return nil
	}
	return t.flush()
}

// trend draws numbers, each as a mark as high as its share of the largest.
func trend(numbers []uint64) string {
	marks, most := []rune("▁▂▃▄▅▆▇█"), uint64(1)
	for _, n := range numbers {
		most = max(most, n)
	}
	var out strings.Builder
	for _, n := range numbers {
		if n == 0 {
			out.WriteRune('·')
			continue
		}
		out.WriteRune(marks[min(n*uint64(len(marks))/(most+1), uint64(len(marks)-1))])
	}
	return out.String()
}
