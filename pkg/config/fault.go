package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Fault is one thing that is wrong with a configuration file.
type Fault struct {
	// File is the name given to [Load] or [Decode].
	File string `json:"file"`
	// Line counts from 1.
	Line int `json:"line"`
	// Column counts characters from 1.
	Column int `json:"column"`
	// Key is the path of keys to the place, such as "sources.orders.secrets[0]";
	// empty for the file as a whole.
	Key string `json:"key,omitempty"`
	// Found is a phrase for what is there, with text in quotes; "[redacted]"
	// where a secret belongs and empty where something is missing.
	Found string `json:"found,omitempty"`
	// Want is a phrase for what should be there; empty if Found says it all.
	Want string `json:"want,omitempty"`
	// Suggestion is the name that was probably meant, if there is one.
	Suggestion string `json:"suggestion,omitempty"`
}

// Error gives the fault on one line, beginning with file:line:column.
func (f Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	switch {
	case f.Found == "":
		b.WriteString("missing, want " + f.Want)
	case f.Want == "":
		b.WriteString(f.Found)
	default:
		b.WriteString("found " + f.Found + ", want " + f.Want)
	}
	if f.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", f.Suggestion)
	}
	return b.String()
}

// Faults are all faults of a file in the order of their positions. Get them
// out of an error with [errors.As].
type Faults []Fault

// Error lists the faults, one per line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted returns fs by position, without repeats, or nil if there are none.
// Repeats come from a Validate method that an outer struct inherits by
// embedding: it runs for both.
func (fs Faults) sorted() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(fs)
}
