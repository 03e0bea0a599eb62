package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// sampled is what would be sampled in two hours of something whose value is of t,
// which goes from 0 to 1.
func sampled(of func(t float64) float64) []reading {
	const lasted, n = 7200, 120
	var all []reading
	for i := range n {
		all = append(all, reading{seconds(lasted * i / n), of(float64(i) / n)})
	}
	return all
}

func TestWhatGrowsIsTold(t *testing.T) {
	t.Parallel()
	noisy := func(seed uint64, of func(t float64) float64) func(t float64) float64 {
		noise := rand.New(rand.NewPCG(seed, 2)) // one for each case: they run at once
		return func(t float64) float64 { return of(t) + 10*noise.Float64() }
	}
	tests := map[string]struct {
		what string
		of   func(t float64) float64
		over bool
	}{
		"memory that warms up and stays": {memory, noisy(1, func(t float64) float64 { return min(40+400*t, 100) }), false},
		"memory that leaks":              {memory, func(t float64) float64 { return 40 + 100*t }, true},
		"memory that leaks between restarts": {memory, func(t float64) float64 {
			return 40 + 200*t*float64(int(10*t)%2)
		}, true},
		"descriptors that go up and down":   {descriptors, noisy(3, func(float64) float64 { return 20 }), false},
		"descriptors that leak":             {descriptors, func(t float64) float64 { return 20 + 80*t }, true},
		"goroutines that leak":              {goroutines, func(t float64) float64 { return 200 + 200*t }, true},
		"a stream that forgets what is old": {messages, func(t float64) float64 { return min(24000*t*6, 24000) }, false},
		"a stream that forgets nothing":     {messages, func(t float64) float64 { return 144000 * t }, true},
		"a store that grows":                {disk, func(t float64) float64 { return 10 + 200*t }, true},
		"a stream's size":                   {size, func(t float64) float64 { return 5 + 10*t }, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := grown("x", tt.what, sampled(tt.of), 7200)
			if g.Over != tt.over || g.TooFew {
				t.Errorf("grown() = %+v, want over %t", g, tt.over)
			}
			if err := (&soaked{Growth: []growth{g}}).err(); (err != nil) != tt.over {
				t.Errorf("err() = %v, want one: %t", err, tt.over)
			}
		})
	}
}

func TestTooFewMeasurementsAreNoVerdict(t *testing.T) {
	t.Parallel()
	g := grown("sink-1", memory, []reading{{2000, 1}, {7000, 1}}, 7200)
	if err := (&soaked{Growth: []growth{g}}).err(); err == nil || !strings.Contains(err.Error(), "too rarely") {
		t.Errorf("err() = %v of two measurements", err)
	}
	var none *soaked
	if err := none.err(); err != nil {
		t.Errorf("err() = %v without a soak", err)
	}
}

func TestAStreamOverItsLimitsIsTold(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	config := jetstream.StreamConfig{MaxBytes: 1000, MaxMsgs: 10, MaxAge: time.Hour}
	within := jetstream.StreamState{Bytes: 1000, Msgs: 10, FirstTime: now.Add(-time.Hour - late)}
	tests := map[string]struct {
		change func(*jetstream.StreamState)
		want   string
	}{
		"all at their limits": {func(*jetstream.StreamState) {}, ""},
		"too large":           {func(s *jetstream.StreamState) { s.Bytes++ }, "1001 bytes"},
		"too many":            {func(s *jetstream.StreamState) { s.Msgs++ }, "11 messages"},
		"too old":             {func(s *jetstream.StreamState) { s.FirstTime = s.FirstTime.Add(-time.Second) }, "1h2m1s old"},
		"empty":               {func(s *jetstream.StreamState) { *s = jetstream.StreamState{} }, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := within
			tt.change(&state)
			got := overLimit(&jetstream.StreamInfo{Config: config, State: state}, now)
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("overLimit() = %q, want %q", got, tt.want)
			}
		})
	}
	if err := (&soaked{Limits: []string{"TERCEL_RAW at 7 s"}}).err(); err == nil || !strings.Contains(err.Error(), "TERCEL_RAW") {
		t.Errorf("err() = %v, want the stream's name", err)
	}
	if overLimit(&jetstream.StreamInfo{Config: jetstream.StreamConfig{MaxBytes: -1, MaxMsgs: -1}, State: within}, now) != "" {
		t.Error("a stream without limits is over them")
	}
}

// Of what there are two, one lives for the whole soak, and so does what there is
// one of: otherwise no growth of theirs could be seen.
func TestASoakLetsSomeLive(t *testing.T) {
	t.Parallel()
	chosen := names(gentle())
	for _, name := range memberNames() {
		ended := slices.Contains(chosen, "kill of "+name) || slices.Contains(chosen, "restart of "+name)
		if want := strings.HasSuffix(name, "-1") && name != "sink-1"; ended != want {
			t.Errorf("%s is ended: %t, want %t", name, ended, want)
		}
	}
}

func TestTheTableOfASoak(t *testing.T) {
	t.Parallel()
	s := &sampler{all: map[string]series{
		"sink-1":     {memory: sampled(func(float64) float64 { return 40 }), goroutines: sampled(func(t float64) float64 { return 100 + 400*t })},
		"TERCEL_RAW": {messages: sampled(func(float64) float64 { return 1200 }), size: sampled(func(float64) float64 { return 1.5 })},
	}}
	var b strings.Builder
	s.judge(7200).write(&b)
	for _, want := range []string{"| sink-1 | 40.0 → 40.0 (40.0) | **", "| TERCEL_RAW | 1200 → 1200 (1200) | 1.5 → 1.5 (1.5) |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
