package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tercelhq/tercel/services/internal/process"
)

// figures are what a turn measures, or medians of turns. What was not measured is
// 0. A processor's time is counted in seconds for 100,000 events, memory in MiB.
type figures struct {
	Rate       float64 `json:"events_per_second,omitempty"`
	CPU        float64 `json:"cpu_seconds_per_100k_events,omitempty"` // of program and servers
	Own        float64 `json:"own_cpu_seconds_per_100k_events,omitempty"`
	Peak       float64 `json:"peak_mib,omitempty"`
	ServerPeak float64 `json:"server_peak_mib,omitempty"`
	Disk       float64 `json:"disk_bytes_per_event,omitempty"`
	P50        float64 `json:"p50_ms,omitempty"`
	P99        float64 `json:"p99_ms,omitempty"`
	P999       float64 `json:"p999_ms,omitempty"`
	Extra      []extra `json:"extra,omitempty"` // of the last turn
}

// extra is what only some scenarios measure.
type extra struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// all are the figures that have medians.
func (f *figures) all() []*float64 {
	return []*float64{&f.Rate, &f.CPU, &f.Own, &f.Peak, &f.ServerPeak, &f.Disk, &f.P50, &f.P99, &f.P999}
}

// latencies notes percentiles.
func (f *figures) latencies(of []time.Duration) {
	if len(of) == 0 {
		return
	}
	slices.Sort(of)
	at := func(share float64) float64 { return of[int(float64(len(of)-1)*share)].Seconds() * 1e3 }
	f.P50, f.P99, f.P999 = at(0.5), at(0.99), at(0.999)
}

// subject is who is measured.
type subject struct {
	name string
	turn func(context.Context) (figures, error)
}

// measure has the subjects take turns and reports medians. The first is Tercel's,
// and the others are what it is held against. With one round nothing warms up.
func (s *stand) measure(ctx context.Context, what string, rounds int, subjects ...subject) ([]row, error) {
	turns := make([][]figures, len(subjects))
	warm := min(rounds-1, 1)
	for round := range rounds + warm {
		for i, sub := range subjects {
			f, err := sub.turn(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %s: %w", s.name, what, sub.name, err)
			}
			if round >= warm {
				turns[i] = append(turns[i], f)
			}
		}
	}
	var rows []row
	for i, sub := range subjects {
		r := row{Scenario: s.scenario, Durability: s.name, Case: what, Subject: sub.name, figures: medians(turns[i])}
		if i > 0 {
			r.Ratio = ratios(turns[0], turns[i])
		}
		s.progress("  %s", r)
		rows = append(rows, r)
	}
	s.report.Rows = append(s.report.Rows, rows...)
	return rows, nil
}

func medians(turns []figures) figures {
	f := turns[len(turns)-1]
	for i, to := range f.all() {
		var values []float64
		for _, t := range turns {
			values = append(values, *t.all()[i])
		}
		*to = median(values)
	}
	return f
}

// ratios are medians of the rounds' ratios: what slows a round slows both.
func ratios(tercels, yardsticks []figures) *ratio {
	of := func(figure func(figures) float64) float64 {
		var values []float64
		for i := range yardsticks {
			if y := figure(yardsticks[i]); y > 0 {
				values = append(values, figure(tercels[i])/y)
			}
		}
		return median(values)
	}
	return &ratio{
		Rate: of(func(f figures) float64 { return f.Rate }),
		CPU:  of(func(f figures) float64 { return f.CPU }),
		P99:  of(func(f figures) float64 { return f.P99 }),
	}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// slowest is the lowest rate among rows.
func slowest(rows []row) float64 {
	lowest := rows[0].Rate
	for _, r := range rows {
		lowest = min(lowest, r.Rate)
	}
	return lowest
}

// meter measures what programs and servers take from now on, until it is asked
// how that divides among so many events.
func (s *stand) meter(programs ...proc) (read func(events int, took time.Duration) (figures, error), err error) {
	own := func() (cpu time.Duration, peak int64, err error) {
		for _, p := range programs {
			u, err := p.Usage()
			if err != nil {
				return 0, 0, err
			}
			cpu, peak = cpu+u.CPU, peak+u.Peak
		}
		return cpu, peak, nil
	}
	resetPeaks(append(programs, proc{Process: s.server})...)
	ownBefore, _, err := own()
	if err != nil {
		return nil, err
	}
	serversBefore, _, err := s.servers()
	if err != nil {
		return nil, err
	}
	return func(events int, took time.Duration) (figures, error) {
		ownCPU, peak, err := own()
		if err != nil {
			return figures{}, err
		}
		serversCPU, serverPeak, err := s.servers()
		if err != nil {
			return figures{}, err
		}
		each := func(d time.Duration) float64 { return d.Seconds() * 1e5 / float64(max(events, 1)) }
		return figures{
			Rate: float64(events) / took.Seconds(), Own: each(ownCPU - ownBefore), CPU: each(ownCPU - ownBefore + serversCPU - serversBefore),
			Peak: mib(peak), ServerPeak: mib(serverPeak),
		}, nil
	}, nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// servers are the processor time of the NATS server and, where there is one, of
// PostgreSQL, and the peak memory of the former.
func (s *stand) servers() (time.Duration, int64, error) {
	u, err := s.server.Usage()
	if err == nil && s.pg != nil {
		u.CPU += s.pg.cpu()
	}
	return u.CPU, u.Peak, err
}

// stored is how many messages a stream has, and how many bytes of disk each of
// them takes.
func (s *stand) stored(ctx context.Context, stream string) (n int, each float64, err error) {
	st, err := s.js.Stream(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	n = int(st.CachedInfo().State.Msgs) //nolint:gosec // there is not that much disk
	bytes, err := process.FolderSize(filepath.Join(s.data(), "jetstream", "$G", "streams", stream))
	return n, float64(bytes) / float64(max(n, 1)), err
}

// resetPeaks makes the programs' peaks begin anew (proc_pid_clear_refs(5)).
func resetPeaks(all ...proc) {
	for _, p := range all {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0)
	}
}
