package alarm

import (
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/report"
)

// sight is what is seen of one source at one time.
type sight struct {
	now    time.Time
	last   time.Time // when the last events came
	known  bool      // whether it is known what is usual
	silent bool      // whether it is silent for longer than that
	missed *missed   // what reports have of the time since; nil unless it is silent
}

// deed is what a judgement has changed.
type deed struct{ probe, raised, cleared bool }

// judge says what a source's silence is now, after it was something before, and
// what is to be done.
func judge(was *cursor.Silence, s sight, probeEvery time.Duration) (*cursor.Silence, deed) {
	alarmed := was != nil && !was.AlarmedAt.IsZero()
	goesOn := was != nil && !s.last.After(was.Since)
	if !s.silent && !(goesOn && !s.known) { // one that lasts stays, when nothing else is known any more
		return nil, deed{cleared: alarmed}
	}
	next, d := cursor.Silence{Since: s.last}, deed{cleared: alarmed && !goesOn}
	if goesOn {
		next = *was
	}
	if s.missed != nil && s.missed.records > next.Missed { // after a restart it may be less, of the reports that are left
		d.raised = next.AlarmedAt.IsZero()
		if d.raised {
			next.AlarmedAt = s.now
		}
		next.Missed, next.Advice = s.missed.records, s.missed.advice()
	}
	if s.now.Sub(next.ProbedAt) >= probeEvery {
		d.probe, next.ProbedAt = true, s.now
	}
	return &next, d
}

// missed is what reports have of the time since a source's last event.
type missed struct {
	records int
	causes  map[report.Cause]int
	seen    map[version]bool
}

// version is one record in one version.
type version struct{ account, resource, id, version string }

// maxMissed bounds the records that are counted of one silence.
const maxMissed = 10_000

func newMissed() *missed { return &missed{causes: map[report.Cause]int{}, seen: map[version]bool{}} }

// add counts the records that reports name as missed or stale and that changed
// after a time, each once. Where a record doesn't say when it changed, that
// nothing came from the source, or nobody was there to take it, says as much.
func (m *missed) add(reports []report.Report, since time.Time) {
	for _, r := range reports {
		for _, rec := range r.Records {
			unsaid := rec.ChangedAt.IsZero() && rec.Cause != report.Silent && rec.Cause != report.Down
			before := !rec.ChangedAt.IsZero() && !rec.ChangedAt.After(since)
			key := version{r.Account, r.Resource, rec.ID, rec.Version}
			if rec.Destination != "" || rec.Verdict == report.Unreadable || unsaid || before || m.seen[key] || m.records == maxMissed {
				continue
			}
			m.seen[key] = true
			m.records++
			m.causes[rec.Cause]++
		}
	}
}

// advice is what a person should do.
func (m *missed) advice() string {
	most := report.Unknown
	for cause, n := range m.causes {
		if n > m.causes[most] || n == m.causes[most] && cause < most {
			most = cause
		}
	}
	switch most {
	case report.Down:
		return "no ingress took requests: see why none was up, and whether its address is reachable"
	case report.Refused:
		return "requests were refused: see the reasons in tercel status, and whether the source signs with a new secret"
	default:
		return "see at the provider whether the webhook is still there and enabled, and what its deliveries were answered; " +
			"and whether its address leads to the ingress"
	}
}

// refusals says whether too many requests of a source are refused now.
func refusals(was *cursor.Refused, now time.Time, all int64, reasons map[string]int64, c pipeline.Refused) (*cursor.Refused, deed) {
	var n int64
	for _, count := range reasons {
		n += count
	}
	over := float64(n) > c.Share*float64(all)
	if !over || was == nil && n < int64(c.Least) { // once it is an alarm, it takes no number to stay one
		return nil, deed{cleared: was != nil}
	}
	next := cursor.Refused{Since: now, Requests: all, Reasons: reasons}
	if was != nil {
		next.Since = was.Since
	}
	return &next, deed{raised: was == nil}
}

// share is for the log.
func share(r *cursor.Refused) string {
	var n int64
	for _, count := range r.Reasons {
		n += count
	}
	return fmt.Sprintf("%d of %d", n, r.Requests)
}
