package cursor

import (
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/report"
)

// maxReasons bounds the accounts that a [Progress] says something of.
const maxReasons = 10

// Progress is how far a backfill has come, in all its accounts.
type Progress struct {
	Backfill
	// Begun and Done are the accounts in which it has begun, and those in which
	// it has come to its end.
	Begun int `json:"accounts_begun"`
	Done  int `json:"accounts_done"`
	// Pages is how many were compared.
	Pages int `json:"pages"`
	report.Counts
	// Worked is how long it has been at work, in seconds: since it was started,
	// less the time that it rested.
	Worked float64 `json:"worked_seconds"`
	// PerSecond is how many records were listed a second of that.
	PerSecond float64 `json:"per_second"`
	// Share is about how much is done, 0 to 1; 0 while nothing tells.
	Share float64 `json:"share,omitzero"`
	// Left is about how long it takes yet, in seconds, or 0 while nothing tells.
	Left float64 `json:"left_seconds,omitzero"`
	// Complete says that it ended with every record compared, and every gap sent
	// again or, in a dry run, found.
	Complete bool `json:"complete"`
	// Reasons say why accounts are not complete, or what they wait for: of the
	// first of them.
	Reasons []string `json:"reasons,omitempty"`
}

// Progress sums up the stretches of a backfill as of now.
func (b Backfill) Progress(stretches []Stretch, now time.Time) Progress {
	p := Progress{Backfill: b, Begun: len(stretches), Complete: b.State == Ended && len(stretches) >= b.Accounts}
	share := 0.0
	for _, st := range stretches {
		t := st.Total()
		p.Pages += t.Pages
		p.Counts = p.Counts.Plus(t.Counts)
		p.Repaired += st.RepairedBefore
		p.Complete = p.Complete && st.Complete
		if st.EndedAt.IsZero() {
			share += t.Share
		} else {
			p.Done++
			share++
		}
		if why := b.reason(st, t); why != "" && len(p.Reasons) < maxReasons {
			p.Reasons = append(p.Reasons, why)
		}
	}
	if b.State == Cancelled {
		p.Reasons = append(p.Reasons, "it was cancelled")
	}
	if n := b.Accounts - len(stretches); n > 0 && b.State == Ended {
		p.Reasons = append(p.Reasons, fmt.Sprintf("%d accounts have gone before they were begun", n))
	}
	p.Worked = b.worked(now)
	if p.Worked > 0 {
		p.PerSecond = float64(p.Listed) / p.Worked
	}
	p.estimate(share)
	return p
}

// reason is why an account is not complete, or "".
func (b Backfill) reason(st Stretch, t Window) string {
	why := ""
	switch {
	case st.Complete:
	case st.Error != "" && st.EndedAt.IsZero():
		why = "tried again at " + st.RetryAt.UTC().Format(time.RFC3339) + ": " + st.Error
	case st.Error != "":
		why = st.Error
	case !st.EndedAt.IsZero():
		why = fmt.Sprintf("%d records could not be read, see its report", t.Counts.Unreadable)
	case b.State == Ended:
		why = "the account has gone"
	}
	if why != "" && b.Accounts > 1 {
		why = "account " + st.Account + ": " + why
	}
	return why
}

// worked is how long the backfill has been at work.
func (b Backfill) worked(now time.Time) float64 {
	switch {
	case b.State == Paused:
		now = b.ChangedAt
	case !b.Active():
		now = b.EndedAt
	}
	return max(0, now.Sub(b.StartedAt).Seconds()-b.Rested)
}

func (p *Progress) estimate(share float64) {
	if p.Accounts > 0 {
		p.Share = min(share/float64(p.Accounts), 1)
	}
	if p.Active() && p.Share > 0 && p.Share < 1 {
		p.Left = p.Worked * (1 - p.Share) / p.Share
	}
}
