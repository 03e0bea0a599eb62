package provider

import (
	"strings"
	"time"
	_ "time/tzdata" // zones are named in files, and not every machine has their rules

	"github.com/robfig/cron/v3"

	"github.com/tercelhq/tercel/pkg/config"
)

// Schedule says when runs begin: at an interval, such as 1h, or at the times of
// a cron expression. Whichever it is, resources and accounts of one schedule
// begin at times of their own, so that they don't ask the source all at once.
type Schedule struct {
	// Interval is the time between two runs, give or take a tenth; 0 where there
	// is a cron expression.
	Interval time.Duration `yaml:"-"`
	// Cron is an expression of five fields: minute, hour, day of the month, month
	// and day of the week, such as "15 2 * * mon-fri". Of times that the clocks
	// skip in spring nothing is made up for. Required in the long form.
	Cron string `yaml:"cron"`
	// Zone is the time zone of the expression, such as Europe/Berlin. Defaults to
	// UTC.
	Zone string `yaml:"zone"`
	// Jitter is the most that a run begins after its time. No more than a tenth
	// of the time to the following one is taken. Defaults to 15m.
	Jitter time.Duration `yaml:"jitter"`

	times *cron.SpecSchedule
}

// defaultJitter is how much later a run of a cron expression begins at most.
const defaultJitter = 15 * time.Minute

// cronFields are the five that everybody knows. No seconds, and no words like
// @daily, which mean midnight for everybody.
var cronFields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// Forms lists what DecodeNode takes, for the schema of files.
func (Schedule) Forms() []any { return []any{time.Duration(0), Schedule{}} }

// DecodeNode reads the short form, an interval, and the long one.
func (s *Schedule) DecodeNode(n config.Node) {
	*s = Schedule{}
	if n.Kind() == config.Scalar {
		if n.Decode(&s.Interval) && s.Interval < time.Second {
			n.Fault("at least 1s, or {cron: EXPRESSION}")
		}
		return
	}
	s.Zone, s.Jitter = "UTC", defaultJitter
	if n.Decode(s) && s.Cron == "" {
		n.Fault("an interval such as 1h, or {cron: EXPRESSION, zone: Europe/Berlin}")
	}
}

// Validate reports every fault of the long form.
func (s *Schedule) Validate(c *config.Check) {
	if s.Cron == "" {
		return // DecodeNode has told
	}
	zone, err := time.LoadLocation(s.Zone)
	// Each replica must mean the same time, wherever it runs.
	if err != nil || s.Zone == "" || s.Zone == "Local" {
		c.Fault("zone", "", "a time zone such as UTC or Europe/Berlin")
		zone = time.UTC
	}
	if s.Jitter < 0 {
		c.Fault("jitter", "", "a time of 0 or more")
	}
	if strings.Contains(s.Cron, "=") { // TZ=…, which the parser takes in front
		c.Fault("cron", "", "five fields, and the time zone as zone beside them")
		return
	}
	parsed, err := cronFields.Parse(s.Cron)
	times, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		c.Fault("cron", "", `five fields: minute, hour, day of the month, month and day of the week, such as "15 2 * * *"`)
		return
	}
	times.Location = zone
	if times.Next(time.Now()).IsZero() {
		c.Fault("cron", "", "an expression with a time to come: this one has none")
		return
	}
	s.times = times
}

// Next returns when the run after the one that began at last begins. Spread, of
// 0 to 1, is its place among those that share the schedule.
func (s Schedule) Next(last time.Time, spread float64) time.Time {
	part := func(d time.Duration) time.Duration { return time.Duration(spread * float64(d)) }
	if s.times == nil {
		return last.Add(s.Interval - s.Interval/10 + part(s.Interval/5))
	}
	at := s.times.Next(last)
	return at.Add(part(max(0, min(s.Jitter, s.times.Next(at).Sub(at)/10))))
}
