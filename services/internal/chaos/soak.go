package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A soak is judged by medians: that of its last quarter against that of its
// second one, since the first is for warming up. A median doesn't see the moments
// in which a process has just been started, and of the processes that there are
// two of, only the first is ever ended: the second has the whole time to grow.
//
// Streams keep messages for less than a quarter of it, so that they have long
// begun to forget what is old.

// soakRate is the changes a second of a soak that was told none.
const soakRate = 20

// bound is how much the last quarter may have over the second: a share of it, and
// an amount for what is small anyway.
type bound struct{ share, amount float64 }

var bounds = map[string]bound{
	memory:      {0.20, 16},
	goroutines:  {0.10, 20},
	descriptors: {0.10, 20},
	disk:        {0.20, 16},
	size:        {0.20, 1},
	messages:    {0.20, 500},
}

// rest waits between two faults.
func (o options) rest(ctx context.Context, r *rand.Rand) error {
	if o.soak {
		return between(ctx, r, o.time/40, o.time/20)
	}
	return between(ctx, r, time.Second, 4*time.Second)
}

// sampleEvery is the time between two measurements.
func (o options) sampleEvery() time.Duration { return max(o.time/120, time.Second) }

// retention is how long messages are kept: in a soak they must have begun to go
// when it is judged.
func (o options) retention() time.Duration {
	if o.soak {
		return max(o.time/6, 2*time.Minute)
	}
	return 7 * 24 * time.Hour
}

// gentle are the faults of a soak: what an ordinary day has.
func gentle() (all []fault) {
	for _, f := range slices.Concat(kills(), restarts(), networkFaults()) {
		ends := (strings.HasPrefix(f.name, "kill of ") || strings.HasPrefix(f.name, "restart of ")) &&
			strings.HasSuffix(f.name, "-1") && !strings.HasSuffix(f.name, "sink-1")
		if ends || strings.HasPrefix(f.name, "cut ") && strings.HasSuffix(f.name, " and all nodes") {
			all = append(all, f)
		}
	}
	return all
}

// growth is how one measure of one thing has gone.
type growth struct {
	Of        string  `json:"of"`
	What      string  `json:"what"`
	Before    float64 `json:"second_quarter"`
	After     float64 `json:"last_quarter"`
	Most      float64 `json:"most"`
	Over      bool    `json:"over"`
	TooFew    bool    `json:"too_few,omitempty"`
	allowance float64
}

// soaked is what became of a soak.
type soaked struct {
	Growth []growth `json:"growth"`
	// Limits has the streams that went over theirs.
	Limits []string `json:"limits"`
	// Missed counts the measurements that failed.
	Missed int `json:"missed"`
}

// judge compares the quarters of what was sampled over a time.
func (s *sampler) judge(lasted seconds) *soaked {
	result := &soaked{Limits: s.limits, Missed: s.missed}
	for _, of := range slices.Sorted(maps.Keys(s.all)) {
		for _, what := range slices.Sorted(maps.Keys(s.all[of])) {
			result.Growth = append(result.Growth, grown(of, what, s.all[of][what], lasted))
		}
	}
	return result
}

func grown(of, what string, all []reading, lasted seconds) growth {
	var second, last []float64
	g := growth{Of: of, What: what}
	for _, r := range all {
		g.Most = max(g.Most, r.Value)
		switch quarter := int(4 * r.At / lasted); {
		case quarter == 1:
			second = append(second, r.Value)
		case quarter >= 3:
			last = append(last, r.Value)
		}
	}
	const enough = 5
	if g.TooFew = len(second) < enough || len(last) < enough; g.TooFew {
		return g
	}
	g.Before, g.After = median(second), median(last)
	b := bounds[what]
	g.allowance = g.Before*b.share + b.amount
	g.Over = g.After > g.Before+g.allowance
	return g
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// err is nil if nothing has grown and every stream has kept to its limits.
func (s *soaked) err() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, g := range s.Growth {
		switch {
		case g.TooFew:
			errs = append(errs, fmt.Errorf("%s of %s was measured too rarely to tell whether it grows", g.What, g.Of))
		case g.Over:
			errs = append(errs, fmt.Errorf("%s of %s has grown from %.1f to %.1f, more than by %.1f", g.What, g.Of, g.Before, g.After, g.allowance))
		}
	}
	if n := len(s.Limits); n > 0 {
		errs = append(errs, fmt.Errorf("streams were over their limits %d times, such as %s", n, s.Limits[0]))
	}
	return errors.Join(errs...)
}

// write writes the tables as Markdown.
func (s *soaked) write(out io.Writer) {
	fmt.Fprintln(out, "Median of the second quarter → of the last, (most):")
	by := map[string]map[string]growth{}
	for _, g := range s.Growth {
		if by[g.Of] == nil {
			by[g.Of] = map[string]growth{}
		}
		by[g.Of][g.What] = g
	}
	process := func(g map[string]growth) bool { _, ok := g[memory]; return ok }
	fmt.Fprint(out, "\n| process | memory, MiB | goroutines | descriptors | store, MiB |\n|---|---|---|---|---|\n")
	for _, of := range slices.Sorted(maps.Keys(by)) {
		if g := by[of]; process(g) {
			fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", of, g[memory], g[goroutines], g[descriptors], g[disk])
		}
	}
	fmt.Fprint(out, "\n| stream | messages | size, MiB |\n|---|---|---|\n")
	for _, of := range slices.Sorted(maps.Keys(by)) {
		if g := by[of]; !process(g) {
			fmt.Fprintf(out, "| %s | %s | %s |\n", of, g[messages], g[size])
		}
	}
	fmt.Fprintf(out, "\nStreams over their limits: %d. Measurements that failed: %d.\n\n", len(s.Limits), s.Missed)
}

// String is how a cell of the table shows it.
func (g growth) String() string {
	switch {
	case g.Of == "":
		return ""
	case g.TooFew:
		return "too few"
	}
	format := "%.0f → %.0f (%.0f)"
	if g.Most < 100 && (g.What == memory || g.What == disk || g.What == size) {
		format = "%.1f → %.1f (%.1f)"
	}
	text := fmt.Sprintf(format, g.Before, g.After, g.Most)
	if g.Over {
		text = "**" + text + "**"
	}
	return text
}
