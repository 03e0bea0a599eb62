package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run found out.
type report struct {
	Machine  machine  `json:"machine"`
	Quick    bool     `json:"quick"`
	Rounds   int      `json:"rounds"`
	Rows     []row    `json:"rows"`
	Verified verified `json:"verified"`
}

// machine is what the absolute figures depend on.
type machine struct {
	Processors int     `json:"processors"`
	Go         string  `json:"go"`
	Sync       float64 `json:"sync_ms"` // what a sync of 4 KiB takes, in the median
	Load       string  `json:"load"`    // at the beginning
	LoadAtEnd  string  `json:"load_at_end"`
}

// row is one subject in one case.
type row struct {
	Scenario   string `json:"scenario"`
	Durability string `json:"durability"`
	Case       string `json:"case"`
	Subject    string `json:"subject"`
	figures
	Ratio *ratio `json:"tercel_to_this,omitempty"` // of a yardstick
}

// ratio is how Tercel's figures relate to a yardstick's.
type ratio struct {
	Rate float64 `json:"rate,omitempty"`
	CPU  float64 `json:"cpu,omitempty"`
	P99  float64 `json:"p99,omitempty"`
}

// verified is what all turns together have sent and found again. There is none
// that was lost, doubled or let in: the run would have ended there.
type verified struct {
	Turns int `json:"turns"`
	// Events were answered, passed on or written, once in each turn.
	Events int `json:"events"`
	// Compared are records that were held against what was seen, with the right outcome.
	Compared  int `json:"compared"`
	Repeats   int `json:"repeats"`
	Forgeries int `json:"forgeries"`
}

func (v *verified) add(o verified) {
	v.Turns, v.Events, v.Compared = v.Turns+1, v.Events+o.Events, v.Compared+o.Compared
	v.Repeats, v.Forgeries = v.Repeats+o.Repeats, v.Forgeries+o.Forgeries
}

// describe tells of the machine, and how long its disk takes under dir.
func describe(dir string) (machine, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return machine{}, err
	}
	defer func() { _ = f.Close() }()
	var times []float64
	for range 51 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return machine{}, err
		}
		if err := f.Sync(); err != nil {
			return machine{}, err
		}
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	return machine{Processors: runtime.NumCPU(), Go: runtime.Version(), Sync: median(times), Load: loadNow()}, nil
}

// loadNow is how many processes were ready to run, in the mean of the last
// minute.
func loadNow() string {
	text, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

// outputs are where a report goes.
type outputs struct {
	json, markdown string
	readme         bool
}

func (r *report) write(out io.Writer, to outputs) error {
	whole := r.markdown()
	if _, err := io.WriteString(out, whole); err != nil {
		return err
	}
	if to.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(to.json, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if to.markdown != "" {
		if err := os.WriteFile(to.markdown, []byte(whole), 0o600); err != nil {
			return err
		}
	}
	if !to.readme {
		return nil
	}
	if err := replaceIn(documents[0], r.summary()); err != nil {
		return err
	}
	return replaceIn(documents[1], whole)
}

// documents are written into: the summary, and the whole report.
var documents = []string{"README.md", "docs/performance.md"}

// Between these lines a document has what this program wrote.
const (
	beginMark = "<!-- bench: begin, written by scripts/bench --readme -->\n"
	endMark   = "<!-- bench: end -->\n"
)

// replaceIn replaces what stands between the marks of a document.
func replaceIn(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(old, []byte(beginMark))
	_, after, ends := bytes.Cut(rest, []byte(endMark))
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %q and %q", file, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	whole := slices.Concat(before, []byte(beginMark+"\n"+text+"\n"+endMark), after)
	return os.WriteFile(file, whole, 0o644) //nolint:gosec // a document that anybody may read
}

// column is one of the report's.
type column struct {
	title string
	text  func(row) string // "" where it wasn't measured
}

// columns are those of all tables. A table leaves out the ones that it has nothing in.
var columns = []column{
	{"events/s", func(r row) string { return number(r.Rate) }},
	{"CPU s/100k: all (own)", func(r row) string {
		if r.CPU == 0 {
			return ""
		}
		return number(r.CPU) + " (" + number(r.Own) + ")"
	}},
	{"peak MiB", func(r row) string { return whole(r.Peak) }},
	{"server's", func(r row) string { return whole(r.ServerPeak) }},
	{"disk B", func(r row) string { return whole(r.Disk) }},
	{"p50 / p99 / p99.9 ms", func(r row) string {
		if r.P50 == 0 {
			return ""
		}
		return number(r.P50) + " / " + number(r.P99) + " / " + number(r.P999)
	}},
	{"Tercel to this: rate", func(r row) string { return r.ratio(func(x ratio) float64 { return x.Rate }) }},
	{"CPU", func(r row) string { return r.ratio(func(x ratio) float64 { return x.CPU }) }},
	{"p99", func(r row) string { return r.ratio(func(x ratio) float64 { return x.P99 }) }},
	{"besides", func(r row) string {
		var all []string
		for _, x := range r.Extra {
			all = append(all, strings.TrimSpace(x.Name+" "+number(x.Value)+" "+x.Unit))
		}
		return strings.Join(all, ", ")
	}},
}

func (r row) ratio(of func(ratio) float64) string {
	if r.Ratio == nil || of(*r.Ratio) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f×", of(*r.Ratio))
}

func whole(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", x)
}

// number has three digits that count, or all before the point.
func number(x float64) string {
	switch {
	case x == 0:
		return ""
	case x >= 100:
		return whole(x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

// String is the row as one line of progress.
func (r row) String() string {
	text := r.Durability + ", " + r.Case + ": " + r.Subject
	for _, c := range columns {
		if t := c.text(r); t != "" {
			text += "; " + c.title + " " + t
		}
	}
	return text
}

// markdown is the whole report.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString(r.conditions())
	for _, s := range scenarios {
		of := func(x row) bool { return x.Scenario == s.name }
		if !slices.ContainsFunc(r.Rows, of) {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n", s.name, strings.ToUpper(s.doc[:1])+s.doc[1:])
		table(&b, slices.Collect(func(yield func(row) bool) {
			for _, x := range r.Rows {
				if of(x) && !yield(x) {
					return
				}
			}
		}))
	}
	return b.String()
}

// conditions say how far the figures go.
func (r *report) conditions() string {
	how := fmt.Sprintf("Medians of %d turns after one that warms up, or one turn where something has to be filled first.", r.Rounds)
	if r.Quick {
		how = "**A quick run: one short turn of each, with nothing warmed up.** It shows that all works, and no more than what is far apart."
	}
	return fmt.Sprintf("%s %d processors that load and servers share; load %s at the start and %s at the end; %s; "+
		"a sync of 4 KiB takes %s ms. %d turns were proved: %d events and %d repeats of them, 0 lost, 0 doubled; %d forgeries, 0 let in; "+
		"%d records compared, each with the right outcome.\n",
		how, r.Machine.Processors, r.Machine.Load, r.Machine.LoadAtEnd, r.Machine.Go, number(r.Machine.Sync),
		r.Verified.Turns, r.Verified.Events, r.Verified.Repeats, r.Verified.Forgeries, r.Verified.Compared)
}

func table(out io.Writer, rows []row) {
	var used []column
	for _, c := range columns {
		if slices.ContainsFunc(rows, func(r row) bool { return c.text(r) != "" }) {
			used = append(used, c)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	head, line := "| durability\t| case\t| subject\t|", "|---\t|---\t|---\t|"
	for _, c := range used {
		head, line = head+" "+c.title+"\t|", line+"---:\t|"
	}
	fmt.Fprintln(w, head+"\n"+line)
	for _, r := range rows {
		text := fmt.Sprintf("| %s\t| %s\t| %s\t|", r.Durability, r.Case, r.Subject)
		for _, c := range used {
			text += " " + c.text(r) + "\t|"
		}
		fmt.Fprintln(w, text)
	}
	_ = w.Flush()
}

// summary is what Tercel took where there is a yardstick, beside its ratios to
// the fastest of them, and on the whole way.
func (r *report) summary() string {
	var b strings.Builder
	b.WriteString(r.conditions() + "\n")
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| measured\t| durability\t| case\t| events/s\t| CPU s/100k\t| peak MiB\t| p50 / p99 / p99.9 ms\t| to the yardstick: rate, CPU, p99\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|")
	for i, x := range r.Rows {
		yardstick, held := fastest(r.Rows[i+1:])
		if x.Ratio != nil || !held && x.Scenario != "way" {
			continue
		}
		against := ""
		if held {
			var all []string
			for _, c := range columns[6:9] {
				all = append(all, c.text(yardstick))
			}
			against = strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ", ")
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", x.Subject, x.Durability, x.Case,
			columns[0].text(x), number(x.CPU), columns[2].text(x), columns[5].text(x), against)
	}
	_ = w.Flush()
	return b.String()
}

// fastest is the yardstick that does best of those that rows begin with, if they do.
func fastest(rows []row) (best row, found bool) {
	for _, x := range rows {
		if x.Ratio == nil {
			break
		}
		if !found || x.Ratio.Rate < best.Ratio.Rate {
			best, found = x, true
		}
	}
	return best, found
}
