package main

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/chaos/link"
	"github.com/tercelhq/tercel/services/internal/proof"
)

func names(faults []fault) (all []string) {
	for _, f := range faults {
		all = append(all, f.name)
	}
	return all
}

// What a seed decides must not depend on how long things take, and each fault has
// its turn before any has a second.
func TestASeedDecidesTheOrderAndEachFaultIsPlayed(t *testing.T) {
	t.Parallel()
	all := faults()
	order := func(seed uint64, chosen func(*rand.Rand)) (order []string, numbers []uint64) {
		s := newSchedule(all, seed)
		for range 3 * len(all) {
			f, r := s.next()
			order, numbers = append(order, f.name), append(numbers, r.Uint64())
			chosen(r)
		}
		return order, numbers
	}
	first, numbers := order(7, func(*rand.Rand) {})
	again, same := order(7, func(r *rand.Rand) { r.Uint64() }) // a fault that chose more
	if strings.Join(first, ",") != strings.Join(again, ",") {
		t.Errorf("seed 7 once gives %q and then %q", first, again)
	}
	for i := range numbers {
		if numbers[i] != same[i] {
			t.Errorf("fault %d chooses by other numbers the second time", i)
		}
	}
	if other, _ := order(8, func(*rand.Rand) {}); strings.Join(first, ",") == strings.Join(other, ",") {
		t.Error("seeds 7 and 8 give one order")
	}
	seen := map[string]bool{}
	for _, name := range first[:len(all)] {
		seen[name] = true
	}
	if len(seen) != len(all) {
		t.Errorf("the first %d are only %d different faults", len(all), len(seen))
	}
}

func TestFaultsAreToldApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range faults() {
		if f.harm == nil || f.name == "" || seen[f.name] || strings.ContainsAny(f.name, "/|*?[\\") {
			t.Errorf("fault %q has no harm, or a name that is another's or can't be chosen by", f.name)
		}
		seen[f.name] = true
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := []fault{{name: "kill of sink-1"}, {name: "kill of node-1"}, {name: "pause of sink-1"}}
	tests := map[string]struct {
		only string
		want string // "" is an error
	}{
		"nothing said":     {"", "kill of sink-1,kill of node-1,pause of sink-1"},
		"a pattern":        {"kill*", "kill of sink-1,kill of node-1"},
		"several patterns": {"pause*|*node*", "kill of node-1,pause of sink-1"},
		"twice the same":   {"kill*|*sink-1", "kill of sink-1,kill of node-1,pause of sink-1"},
		"no such fault":    {"kil", ""},
		"one of two":       {"kill*|kil", ""},
		"no pattern":       {"[", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(all, tt.only)
			if s := strings.Join(names(got), ","); s != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("choose(%q) = %q, %v; want %q", tt.only, s, err, tt.want)
			}
		})
	}
}

// A service is connected to one node: a fault on its way to another would harm nothing.
func TestTheWayToANodeThatFailsIsInUse(t *testing.T) {
	t.Parallel()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ways: map[way]*link.Link{}}
	t.Cleanup(func() {
		w.close()
		_ = target.Close()
	})
	for i := range nodes {
		if _, err := w.via("sink-1", nodeName(i), target.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	used := w.ways[way{"sink-1", nodeName(1)}]
	conn, err := net.Dial("tcp", used.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for seed := range uint64(10) {
		got, err := serviceAndItsNode("sink")(t.Context(), w, rand.New(rand.NewPCG(seed, 0)))
		if err != nil || len(got) != 1 || got[0] != used {
			t.Errorf("links %v, %v; want that with a connection alone", got, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]string{
		"an unknown flag": "--sed 7",
		"an argument":     "kill",
		"no time":         "--time 0s",
		"a negative rate": "--rate -1",
		"no such fault":   "--list --only nothing",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(context.Background(), strings.Fields(args), t.Output()); err == nil {
				t.Errorf("run(%s) = nil, want an error", args)
			}
		})
	}
	if o, err := parse(nil); err != nil || o.seed == 0 {
		t.Errorf("parse() = %+v, %v; want any seed", o, err)
	}
}

// What came only after a replay, and had waited as no dead letter, is told.
func TestWhatDidNotSettleFailsTheRun(t *testing.T) {
	t.Parallel()
	var tab table
	if err := tab.err(); err != nil {
		t.Errorf("err() = %v of a run that has settled", err)
	}
	tab.Unsettled = "1 records and 0 webhooks are missing"
	if err := tab.err(); err == nil || !strings.Contains(err.Error(), tab.Unsettled) {
		t.Errorf("err() = %v, want %q in it", err, tab.Unsettled)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	tab := table{Seed: 7, Rate: 100, Played: []played{
		{Fault: "kill of sink-1", Kind: "kill of a service", Harm: 1, Recovered: 2.5},
		{Fault: "kill of node-1", Kind: "kill of a node", Harm: 3, Recovered: 1},
		{Fault: "kill of enricher-1", Kind: "kill of a service", Harm: 2, Recovered: 12, Error: "not recovered"},
	}, NotHere: []notHere{{"power loss", "no root"}}}
	tab.found(proof.Verdict{Delivered: 3, Took: []time.Duration{time.Second, 2 * time.Second}})
	tab.write(&b)
	for _, want := range []string{
		"Seed 7;", "| kill of a node | 1 | 3.0 | 1.0 | 1.0 |", "| kill of a service | 2 | 1.0 to 2.0 | 2.5 failed | 12.0 |",
		"| power loss | 0 | not here: no root |", "| faults played | 3 |",
		"half within 1.0 s, 99 of 100 within 1.0 s, without 1 that were replayed",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
