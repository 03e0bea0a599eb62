package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

func perSecond(t turn) float64 { return t.rate }

func report(out io.Writer, n int, yards, ingresses []turn) {
	fmt.Fprintf(out, "%d\t%.0f\t%.0f\t%.2f\t%s\t%s\t%.2f\t%.0f MiB\n", n,
		median(yards, perSecond), median(ingresses, perSecond), ratio(yards, ingresses, perSecond),
		cpus(yards), cpus(ingresses), ratio(yards, ingresses, turn.cpu),
		slices.MaxFunc(ingresses, func(a, b turn) int { return int(a.peak - b.peak) }).peak)
}

func cpus(turns []turn) string {
	return fmt.Sprintf("%.0f+%.0f", median(turns, func(t turn) float64 { return t.app }), median(turns, func(t turn) float64 { return t.server }))
}

func reportLatency(out io.Writer, rate float64, yards, ingresses []turn) {
	fmt.Fprintln(out, "offered/s\tyardstick p50\tingress p50\tyardstick p99\tingress p99\tratio of p99")
	p50, p99 := func(t turn) float64 { return float64(t.p50) }, func(t turn) float64 { return float64(t.p99) }
	ms := func(turns []turn, of func(turn) float64) time.Duration {
		return time.Duration(median(turns, of)).Round(10 * time.Microsecond)
	}
	fmt.Fprintf(out, "%.0f\t%s\t%s\t%s\t%s\t%.2f\n", rate,
		ms(yards, p50), ms(ingresses, p50), ms(yards, p99), ms(ingresses, p99), ratio(yards, ingresses, p99))
}

// latency is how long so many percent of the requests took at most.
func (o outcome) latency(percent int) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	return o.latencies[(len(o.latencies)-1)*percent/100]
}

func median(turns []turn, of func(turn) float64) float64 {
	var values []float64
	for _, t := range turns {
		values = append(values, of(t))
	}
	return middle(values)
}

// ratio is the median of the rounds' ratios: what slows a round slows both.
func ratio(yards, ingresses []turn, of func(turn) float64) float64 {
	var values []float64
	for i := range yards {
		values = append(values, of(ingresses[i])/of(yards[i]))
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
