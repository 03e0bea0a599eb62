package hostile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
)

// atOnce is how many attacks go on at the same time.
const atOnce = 16

// withstand sends a part of the corpus, once to warm the programs up and then as
// often as is asked for, and checks what has to hold of all of it. attacks is asked
// anew each time, since what is signed has its time; its map is by what is tried.
func (w *world) withstand(addr string, attacks func() map[string]attack) {
	w.t.Helper()
	before := w.stored()
	stored := w.assault(addr, attacks())
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	attacked := w.neighbour.while(0, func() {
		for range max(*rounds, 1) {
			stored += w.assault(addr, attacks())
		}
	})
	w.compare(quiet, attacked)
	w.recovered(base)
	if err := w.alive(); err != nil {
		w.t.Error(err)
	}
	if got := w.stored() - before - uint64(w.neighbour.sent); got != uint64(stored) {
		w.t.Errorf("%d events of attackers are stored, want %d", got, stored)
	}
	w.nowhere(unstored)
}

// compare reports what the neighbour felt. Every webhook of its has to have been
// taken, and 99 of 100 sooner than a slow sender's time is up: one that has to wait for
// an attacker waits that long. How soon otherwise depends on the machine.
func (w *world) compare(quiet, attacked latencies) {
	w.t.Helper()
	w.t.Logf("neighbour alone: %s; attacked: %s; ratio p50 %.1f, p99 %.1f", quiet, attacked,
		float64(attacked.at(.5))/float64(quiet.at(.5)), float64(attacked.at(.99))/float64(quiet.at(.99)))
	if attacked.at(.99) >= readTimeout {
		w.t.Error("the neighbour waits for its attackers")
	}
	for _, wrong := range w.neighbour.wrong {
		w.t.Errorf("neighbour: %s", wrong)
	}
	if dead := w.count(w.t.Context(), topology.StreamDLQ, "tercel.dlq.*.shop.>"); dead > 0 {
		w.t.Errorf("%d events of the neighbour are dead letters", dead)
	}
}

// assault makes all attacks and returns how many events they were to leave.
func (w *world) assault(addr string, attacks map[string]attack) (stored int) {
	w.t.Helper()
	var going sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for name, a := range attacks {
		stored += a.stored
		places <- struct{}{}
		going.Go(func() {
			defer func() { <-places }()
			if err := a.try(addr); err != nil {
				w.t.Errorf("%s: %v", name, err)
			}
		})
	}
	going.Wait()
	return stored
}

// stored is how many messages TERCEL_RAW has taken.
func (w *world) stored() uint64 {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), topology.StreamRaw)
	if err != nil {
		w.t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// nowhere checks that no stream has a message with text in its subject, headers or
// body. Left out are notes on refused requests, which are what they are for.
func (w *world) nowhere(text string) {
	w.t.Helper()
	for name := range w.js.StreamNames(w.t.Context()).Name() {
		if name == topology.StreamRefused {
			continue
		}
		for m, err := range consume.Scan(w.t.Context(), w.js, consume.ScanOptions{Stream: name}) {
			if err != nil {
				w.t.Fatal(err)
			}
			if strings.Contains(m.Subject+fmt.Sprint(m.Header), text) || bytes.Contains(m.Data, []byte(text)) {
				w.t.Errorf("%s has what was refused: %s %v", name, m.Subject, m.Header)
			}
		}
	}
}

// footprint is what a program takes.
type footprint struct {
	goroutines, descriptors int
	live                    int64 // heap that was in use at the last collection, and what it lets grow beside it; bytes
	memory                  int64 // in RAM, in bytes
}

// footprints are by program.
type footprints map[string]footprint

// footprint looks until nothing grows less.
func (w *world) footprint() footprints {
	w.t.Helper()
	least := footprints{}
	for still := 0; still < 3; still++ {
		now := footprints{}
		for name := range w.health {
			now[name] = w.look(name)
			if before, ok := least[name]; !ok || now[name].goroutines < before.goroutines || now[name].descriptors < before.descriptors {
				still = 0
			}
		}
		least = now
		select {
		case <-time.After(100 * time.Millisecond):
		case <-w.t.Context().Done():
		}
	}
	return least
}

func (w *world) look(name string) footprint {
	w.t.Helper()
	usage, err := w.parts[name].Usage()
	if err != nil {
		w.t.Fatal(err)
	}
	metrics, err := scrape(w.health[name])
	if err != nil {
		w.t.Fatal(err)
	}
	return footprint{
		goroutines: int(metrics["go_goroutines"]), descriptors: usage.Descriptors, live: int64(metrics["go_memstats_next_gc_bytes"]), memory: usage.Memory,
	}
}

// Slack of a footprint: connections that the programs' own work opens and closes,
// and memory that is kept for the next requests.
const (
	slackGoroutines  = 8
	slackDescriptors = 6
	slackBytes       = 16 << 20
)

// recovered waits until every program takes what it took before.
func (w *world) recovered(base footprints) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(base)) {
		b := base[name]
		began := time.Now()
		w.eventually(name+" takes what it took before", func(context.Context) error {
			var now footprint
			for range 20 { // each look brings the next collection closer
				now = w.look(name)
			}
			if now.goroutines > b.goroutines+slackGoroutines || now.descriptors > b.descriptors+slackDescriptors || now.live > b.live+slackBytes {
				return fmt.Errorf("it was %+v, and is %+v", b, now)
			}
			return nil
		})
		w.t.Logf("%s before %+v, after %+v, %s later", name, b, w.look(name), time.Since(began).Round(time.Millisecond))
	}
}

// scrape reads the values of a program's metrics that have no labels.
func scrape(addr string) (map[string]float64, error) {
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			values[name] = v
		}
	}
	if values["go_goroutines"] == 0 || values["go_memstats_next_gc_bytes"] == 0 {
		return nil, errors.New("no metrics of the runtime")
	}
	return values, nil
}
