package audit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"

	"github.com/tercelhq/tercel/pkg/metrics"
	"github.com/tercelhq/tercel/pkg/report"
)

// findings are those of one pass.
type findings struct {
	all []found
}

// found is a finding with what makes it the same when a pass that died has it
// again.
type found struct {
	report.Finding
	id string
}

func (f *findings) add(what report.Finding, id string) {
	f.all = append(f.all, found{what, string(what.Kind) + ":" + what.Name + ":" + id})
}

func (f *findings) has(kind report.FindingKind, name string) bool {
	return slices.ContainsFunc(f.all, func(x found) bool { return x.Kind == kind && x.Name == name })
}

// tell reports what a pass found: in the log, in the metric that alarms rest on,
// and in TERCEL_REPORTS, where status and reports show it.
func (a *Audit) tell(ctx context.Context, f *findings) error {
	var errs []error
	for _, x := range f.all {
		a.found.Add(ctx, 1, metrics.FaultsFound.With(string(x.Kind), strconv.FormatBool(x.Repaired)))
		a.deps.Log.LogAttrs(ctx, slog.LevelError, "the audit found a fault inside", slog.String("kind", string(x.Kind)),
			slog.String("name", x.Name), slog.Int("count", x.Count), slog.String("detail", x.Detail), slog.Bool("repaired", x.Repaired))
		x.At = a.deps.Now().UTC()
		errs = append(errs, report.PublishFinding(ctx, a.js, x.Finding, x.id))
	}
	return errors.Join(errs...)
}
