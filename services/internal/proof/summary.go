package proof

import (
	"errors"
	"fmt"
	"strings"
)

// SummaryHead is the head of a Markdown table of [Verdict.Row]s.
const SummaryHead = `| accepted | delivered | dead letters | repaired | lost | doubled effects | versions back | refused, but there | other faults |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|`

// Row is the verdict as a row of a Markdown table under [SummaryHead].
func (v Verdict) Row() string {
	cells := []int{
		v.Accepted, v.Delivered, v.Letters, v.Repaired, len(v.Lost) + len(v.Undelivered), len(v.Doubled), len(v.Backward),
		len(v.Refused), len(v.Waiting) + len(v.Undone) + len(v.Invented) + len(v.Contextless),
	}
	return "| " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(cells)), " | "), "[]") + " |"
}

// maxExamples bounds what an error lists of each fault.
const maxExamples = 5

// Err is nil if nothing is wrong, and otherwise tells of every kind of fault how
// often it was found, and the first few. Some faults are counted to a hundred.
func (v Verdict) Err() error {
	var errs []error
	for _, fault := range []struct {
		what string
		all  []string
	}{
		{"records are not at the destination as they are at the source", v.Lost},
		{"webhooks were accepted and are lost", v.Undelivered},
		{"webhooks were accepted and still wait as dead letters", v.Waiting},
		{"effects are doubled", v.Doubled},
		{"records went back", v.Backward},
		{"events were changed or removed", v.Undone},
		{"things are at the destination that never were at the source", v.Invented},
		{"refused webhooks are there all the same", v.Refused},
		{"dead letters don't say all", v.Contextless},
	} {
		if n := len(fault.all); n > 0 {
			errs = append(errs, fmt.Errorf("%d %s, such as: %s", n, fault.what, strings.Join(fault.all[:min(n, maxExamples)], "; ")))
		}
	}
	return errors.Join(errs...)
}
