package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/internal/control"
	"github.com/tercelhq/tercel/services/reconciler/internal/backfill"
	"github.com/tercelhq/tercel/services/reconciler/internal/run"
)

// lists are the resources that can be listed, as [backfill.Resources] wants
// them.
type lists struct {
	*Service
	deps map[string]run.Deps // by source
}

func (s *Service) newBackfills(deps map[string]run.Deps) *backfill.Service {
	return backfill.New(backfill.Config{Rate: s.cfg.Backfill.Rate, Slices: s.cfg.Backfill.Slices, LeaseTTL: s.cfg.LeaseTTL}, backfill.Deps{
		JetStream: s.js, Resources: lists{s, deps}, Pauses: s.pauses, Log: s.deps.Log, Now: s.deps.Now,
	})
}

// Accounts returns the names of a source's accounts.
func (l lists) Accounts(ctx context.Context, source, resource string) ([]string, error) {
	src := l.cfg.Sources[source]
	if src.Resources[resource].Reconcile == nil && (resource != provider.EventsResource || src.Events == nil) {
		return nil, fmt.Errorf("%w %q of source %q: %s", control.ErrUnknown, resource, source, l.known())
	}
	table := l.Service.deps.Accounts.Of(source)
	if table == nil {
		return []string{event.NoAccount}, nil
	}
	if err := l.Service.deps.Accounts.Loaded(ctx); err != nil {
		return nil, fmt.Errorf("accounts of source %q: %w", source, err)
	}
	return slices.Sorted(table.Active()), nil
}

// known names the resources that can be listed.
func (l lists) known() string {
	var names []string
	for source, src := range l.cfg.Sources {
		for resource, r := range src.Resources {
			if r.Reconcile != nil {
				names = append(names, source+"/"+resource)
			}
		}
		if src.Events != nil {
			names = append(names, source+"/"+provider.EventsResource)
		}
	}
	slices.Sort(names)
	more := ""
	if n := len(names); n > maxNamed {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", n-maxNamed)
	}
	if len(names) == 0 {
		return "none of them lists records"
	}
	return "known are " + strings.Join(names, ", ") + more
}

// Runner returns one that leaves the schedule its place: its requests give way,
// and its repairs are counted by the backfill's own rate.
func (l lists) Runner(key cursor.Key) (*run.Runner, error) {
	deps := l.deps[key.Source]
	deps.Repairs = rate.NewLimiter(rate.Inf, 0)
	cfg := l.runConfig(key)
	cfg.Background = true
	return run.New(cfg, deps)
}

// Canceller returns one that gives up what was begun.
func (l lists) Canceller(key cursor.Key) *run.Runner {
	if r, err := l.Runner(key); err == nil {
		return r
	}
	return run.Gone(key, run.Deps{JetStream: l.js, Metrics: l.metrics, Now: l.Service.deps.Now})
}
