package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/report"
)

type reconcileReportCmd struct {
	pipelineFlags
	Source   string        `help:"Only this source." placeholder:"NAME"`
	Resource string        `help:"Only this resource." placeholder:"NAME"`
	Account  string        `help:"Only this account." placeholder:"NAME"`
	Since    time.Duration `help:"Only reports so young." default:"24h"`
	Gaps     bool          `help:"Only reports of runs that found something or failed."`
	Inside   bool          `help:"What the audit found to be wrong inside the pipeline, in place of the reports of runs."`
	Limit    int           `help:"At most this many, the newest." default:"1000"`
	Format   string        `help:"json has all of it, csv a row for each record that was missed, stale or orphaned, md is for people." enum:"json,csv,md" default:"md"`
}

// Help is shown by --help.
func (reconcileReportCmd) Help() string {
	return `Exports what reconciliation found: of each run the window, the counts, which
records were missed, stale or orphaned and why as far as evidence allows, and a statement of how
complete the records are, with a digest of both sides.

Example:
  tercel reconcile report --source orders --since 168h --format csv > gaps.csv`
}

// Run runs the command.
func (c reconcileReportCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if c.Inside {
		found, err := report.Findings(a.ctx, nc.js, time.Now().Add(-c.Since), c.Limit)
		if err != nil {
			return err
		}
		return writeFindings(a.out, c.Format, found)
	}
	all, err := report.List(a.ctx, nc.js, report.Query{
		Source: c.Source, Resource: c.Resource, Since: time.Now().Add(-c.Since), Limit: c.Limit,
	})
	if err != nil {
		return err
	}
	reports := []report.Report{}
	for _, r := range all {
		found := len(r.Records) > 0 || r.Error != "" || r.Deletes != nil && r.Deletes.Stopped != ""
		if (c.Account == "" || r.Account == c.Account) && (!c.Gaps || found) {
			reports = append(reports, r)
		}
	}
	switch c.Format {
	case "json":
		return printJSON(a.out, reports)
	case "csv":
		return writeCSV(a.out, reports)
	default:
		return writeMarkdown(a.out, reports)
	}
}

var csvColumns = []string{
	"run", "source", "account", "resource", "window_from", "window_to", "record", "version", "verdict", "destination", "cause",
	"changed_at", "first_seen", "repaired", "type", "redelivered", "arrived_at",
}

func writeCSV(w io.Writer, reports []report.Report) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvColumns); err != nil {
		return err
	}
	for _, r := range reports {
		for _, rec := range r.Records {
			row := []string{
				r.Run, r.Source, r.Account, r.Resource, iso(r.From), iso(r.To), rec.ID, rec.Version, rec.Verdict, rec.Destination,
				string(rec.Cause), iso(rec.ChangedAt), iso(rec.FirstSeen), fmt.Sprint(rec.Repaired),
				rec.Type, fmt.Sprint(rec.Redelivered), iso(rec.ArrivedAt),
			}
			for i := range row {
				row[i] = cell(row[i])
			}
			if err := out.Write(row); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

// cell keeps a spreadsheet from taking a provider's text for a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// iso is a time for machines, or "".
func iso(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func writeMarkdown(w io.Writer, reports []report.Report) error {
	out := &markdown{w: w}
	out.line("# Reconciliation")
	for _, r := range reports {
		out.report(r)
	}
	if len(reports) == 0 {
		out.line("\nNo reports.")
	}
	return out.err
}

// markdown writes lines until the first error.
type markdown struct {
	w   io.Writer
	err error
}

func (m *markdown) line(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format+"\n", args...)
	}
}

// row writes a row of a table. What comes from outside can't end its cell.
func (m *markdown) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = plain(fmt.Sprint(c))
	}
	m.line("| %s |", strings.Join(texts, " | "))
}

var markup = strings.NewReplacer("|", `\|`, "`", "\\`", "<", "&lt;", "*", `\*`, "[", `\[`, "_", `\_`)

func plain(text string) string { return markup.Replace(printable(text)) }

func (m *markdown) report(r report.Report) {
	m.line("\n## %s %s %s, run %s\n", plain(r.Source), plain(r.Resource), plain(r.Account), plain(r.Run))
	m.line("%s.\n", plain(r.Statement()))
	if r.Error != "" {
		m.line("Failed: %s\n", plain(r.Error))
	}
	if r.Redelivered > 0 {
		m.line("Sent again by the source when it was asked to: %d\n", r.Redelivered)
	}
	m.line("| pages | listed | matched | missed | stale | ahead | orphaned | duplicates | unreadable | sent again |")
	m.line("|---|---|---|---|---|---|---|---|---|---|")
	m.row(r.Pages, r.Listed, r.Matched, r.Missed, r.Stale, r.Ahead, r.Orphaned, r.Duplicates, r.Unreadable, r.Repaired)
	if d := r.Deletes; d != nil {
		m.line("\n| held | not listed | there all the same | orphaned | not to be asked for | tombstones sent |")
		m.line("|---|---|---|---|---|---|")
		m.row(d.Held, d.Unlisted, d.Present, r.Orphaned, d.Unchecked, d.Tombstones)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Destinations)) {
		m.line("\n%s", plain(destinationLine(name, r.Destinations[name])))
	}
	if len(r.Records) == 0 {
		return
	}
	for _, line := range evidenceLines(r.Evidence) {
		m.line("\n%s", plain(line))
	}
	m.line("\n| record | version or type | verdict | where | cause | changed | first seen | sent again |\n|---|---|---|---|---|---|---|---|")
	for _, rec := range r.Records {
		where := "pipeline"
		if rec.Destination != "" {
			where = rec.Destination
		}
		m.row(rec.ID, orDash(rec.Version+rec.Type), rec.Verdict, where, orDash(causeText(rec)), orDash(iso(rec.ChangedAt)), orDash(iso(rec.FirstSeen)), rec.Repaired || rec.Redelivered)
	}
}

// causeText says why a record was missed, and when its trigger came if it did.
func causeText(rec report.Record) string {
	if rec.ArrivedAt.IsZero() {
		return rec.Cause.Text()
	}
	return rec.Cause.Text() + ", " + iso(rec.ArrivedAt)
}

func destinationLine(name string, d report.Destination) string {
	line := fmt.Sprintf("Destination %s: %d matched, %d missed, %d stale, %d ahead, %d orphaned, %d sent again; digest %s",
		name, d.Matched, d.Missed, d.Stale, d.Ahead, d.Orphaned, d.Repaired, d.Held.Digest)
	if d.Behind {
		line += "; it had not taken all events yet"
	}
	return line
}

// evidenceLines say why records were missed.
func evidenceLines(e report.Evidence) []string {
	var lines, causes []string
	for _, cause := range slices.Sorted(maps.Keys(e.Causes)) {
		causes = append(causes, fmt.Sprintf("%d %s", e.Causes[cause], cause.Text()))
	}
	if len(causes) > 0 {
		lines = append(lines, "Causes: "+strings.Join(causes, ", "))
	}
	var refused []string
	for _, outcome := range slices.Sorted(maps.Keys(e.Refused)) {
		refused = append(refused, fmt.Sprintf("%d %s", e.Refused[outcome], outcome))
	}
	if len(refused) > 0 {
		lines = append(lines, "Refused requests of the source meanwhile: "+strings.Join(refused, ", "))
	}
	if e.Error != "" {
		lines = append(lines, "Evidence that could not be read: "+e.Error)
	}
	return lines
}
