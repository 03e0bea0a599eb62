package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/report"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type reconcileReportCmd struct {
	apiFlags
	Source   string `help:"Only this source." placeholder:"NAME"`
	Resource string `help:"Only this resource." placeholder:"NAME"`
	Account  string `help:"Only this account." placeholder:"NAME"`
	Since    string `help:"Only from then on: 2026-01-31, 2026-01-31T08:00:00Z, or an age such as 1h or 7d." default:"24h" placeholder:"TIME"`
	Gaps     bool   `help:"Only reports of runs that found something or failed."`
	Inside   bool   `help:"What the audit found to be wrong inside the pipeline, in place of the reports of runs."`
	Limit    int    `help:"At most this many, the newest." default:"1000"`
	Format   string `help:"json has all of it, csv a row for each record that was missed, stale or orphaned, md is for people." enum:"json,csv,md" default:"md"`
}

// Help is shown by --help.
func (reconcileReportCmd) Help() string {
	return `Exports what reconciliation found: of each run the window, the counts, which
records were missed, stale or orphaned and why as far as evidence allows, and a statement of how
complete the records are, with a digest of both sides.

Example:
  tercel reconcile report --source orders --since 168h --format csv > gaps.csv`
}

// Validate reports options that contradict each other.
func (c reconcileReportCmd) Validate() error {
	if c.Inside && (c.Source != "" || c.Resource != "" || c.Account != "" || c.Gaps) {
		return errors.New("--inside: want it without --source, --resource, --account and --gaps: findings are of the whole pipeline")
	}
	return nil
}

// Run runs the command.
func (c reconcileReportCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	since, err := when("--since", c.Since)
	if err != nil {
		return err
	}
	if c.Inside {
		return c.inside(a, api, since)
	}
	reports, err := api.reports(a.ctx, c.Limit, &adminv1.ListReconciliationReportsRequest{
		Source: c.Source, Account: c.Account, Resource: c.Resource, Since: since, GapsOnly: c.Gaps,
	})
	if err != nil {
		return err
	}
	slices.Reverse(reports) // an export tells things in the order in which they happened
	switch c.Format {
	case "json":
		texts, err := messages(reports)
		if err != nil {
			return err
		}
		return printJSON(a.out, texts)
	case "csv":
		return writeCSV(a.out, reports)
	default:
		return writeMarkdown(a.out, reports)
	}
}

func (c reconcileReportCmd) inside(a *app, api *api, since *timestamppb.Timestamp) error {
	found, _, err := list(listFlags{Limit: c.Limit}, func(size uint32, token string) ([]*adminv1.Finding, string, error) {
		resp, err := api.pipeline.ListFindings(a.ctx, connect.NewRequest(&adminv1.ListFindingsRequest{Since: since, PageSize: size, PageToken: token}))
		if err != nil {
			return nil, "", err
		}
		return resp.Msg.GetFindings(), resp.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(found)
	return writeFindings(a.out, c.Format, found)
}

var csvColumns = []string{
	"run", "source", "account", "resource", "window_from", "window_to", "record", "version", "verdict", "destination", "cause",
	"changed_at", "first_seen", "repaired", "type", "redelivered", "arrived_at",
}

func writeCSV(w io.Writer, reports []*adminv1.ReconciliationReport) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvColumns); err != nil {
		return err
	}
	for _, r := range reports {
		of := r.GetResource()
		for _, rec := range r.GetRecords() {
			row := []string{
				r.GetRun(), of.GetSource(), of.GetAccount(), of.GetResource(), iso(r.GetWindowFrom()), iso(r.GetWindowTo()), rec.GetId(), rec.GetVersion(),
				rec.GetVerdict(), rec.GetDestination(), rec.GetCause(), iso(rec.GetChangedAt()), iso(rec.GetFirstSeen()), fmt.Sprint(rec.GetRepaired()),
				rec.GetType(), fmt.Sprint(rec.GetRedelivered()), iso(rec.GetArrivedAt()),
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

// cell keeps a spreadsheet from taking a provider's text for a formula, and a
// terminal from taking it for commands.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		text = "'" + text
	}
	return printable(text)
}

// iso is a time for machines, or "".
func iso(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

func writeMarkdown(w io.Writer, reports []*adminv1.ReconciliationReport) error {
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

func (m *markdown) report(r *adminv1.ReconciliationReport) {
	of, n := r.GetResource(), r.GetCounts()
	m.line("\n## %s %s %s, run %s\n", plain(of.GetSource()), plain(of.GetResource()), plain(of.GetAccount()), plain(r.GetRun()))
	m.line("%s.\n", plain(r.GetStatement()))
	if r.GetError() != "" {
		m.line("Failed: %s\n", plain(r.GetError()))
	}
	if n["redelivered"] > 0 {
		m.line("Sent again by the source when it was asked to: %d\n", n["redelivered"])
	}
	m.line("| pages | listed | matched | missed | stale | ahead | orphaned | duplicates | unreadable | repaired |")
	m.line("|---|---|---|---|---|---|---|---|---|---|")
	m.row(r.GetPages(), n["listed"], n["matched"], n["missed"], n["stale"], n["ahead"], n["orphaned"], n["duplicates"], n["unreadable"], n["repaired"])
	if d := r.GetDeletes(); d != nil {
		m.line("\n| held | not listed | there all the same | orphaned | not to be asked for | tombstones sent |")
		m.line("|---|---|---|---|---|---|")
		m.row(d.GetHeld(), d.GetUnlisted(), d.GetPresent(), n["orphaned"], d.GetUnchecked(), d.GetTombstones())
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetDestinations())) {
		m.line("\n%s", plain(destinationLine(name, r.GetDestinations()[name])))
	}
	if len(r.GetRecords()) == 0 {
		return
	}
	for _, line := range evidenceLines(r) {
		m.line("\n%s", plain(line))
	}
	m.line("\n| record | version or type | verdict | where | cause | changed | first seen | repaired |\n|---|---|---|---|---|---|---|---|")
	for _, rec := range r.GetRecords() {
		where := "pipeline"
		if rec.GetDestination() != "" {
			where = rec.GetDestination()
		}
		m.row(rec.GetId(), orDash(rec.GetVersion()+rec.GetType()), rec.GetVerdict(), where, orDash(causeText(rec)), orDash(iso(rec.GetChangedAt())),
			orDash(iso(rec.GetFirstSeen())), rec.GetRepaired() || rec.GetRedelivered())
	}
}

// causeText says why a record was missed, and when its trigger came if it did.
func causeText(rec *adminv1.RecordVerdict) string {
	text := report.Cause(rec.GetCause()).Text()
	if rec.GetArrivedAt() == nil {
		return text
	}
	return text + ", " + iso(rec.GetArrivedAt())
}

func destinationLine(name string, d *adminv1.DestinationComparison) string {
	n := d.GetCounts()
	line := fmt.Sprintf("Destination %s: %d matched, %d missed, %d stale, %d ahead, %d orphaned, %d repaired; digest %s",
		name, n["matched"], n["missed"], n["stale"], n["ahead"], n["orphaned"], n["repaired"], d.GetHeld().GetDigest())
	if d.GetBehind() {
		line += "; it had not taken all events yet"
	}
	return line
}

// evidenceLines say why records were missed.
func evidenceLines(r *adminv1.ReconciliationReport) []string {
	var lines, causes []string
	for _, cause := range slices.Sorted(maps.Keys(r.GetCauses())) {
		causes = append(causes, fmt.Sprintf("%d %s", r.GetCauses()[cause], report.Cause(cause).Text()))
	}
	if len(causes) > 0 {
		lines = append(lines, "Causes: "+strings.Join(causes, ", "))
	}
	var refused []string
	for _, outcome := range slices.Sorted(maps.Keys(r.GetRefused())) {
		refused = append(refused, fmt.Sprintf("%d %s", r.GetRefused()[outcome], outcome))
	}
	if len(refused) > 0 {
		lines = append(lines, "Refused requests of the source meanwhile: "+strings.Join(refused, ", "))
	}
	if r.GetEvidenceError() != "" {
		lines = append(lines, "Evidence that could not be read: "+r.GetEvidenceError())
	}
	return lines
}
