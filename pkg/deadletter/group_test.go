package deadletter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/topology"
)

func TestBlankLeavesWhatIsTheSame(t *testing.T) {
	t.Parallel()
	for want, alike := range map[string][]string{
		"get order #: # Service Unavailable": {
			"get order 17: 503 Service Unavailable", "get order a8f-2: 503 Service Unavailable",
			"get order 1b4e28ba-2fa1-11d2-883f-0016d3cca427: 502 Service Unavailable",
		},
		`dial tcp #: connect: connection refused`: {
			"dial tcp 10.0.0.7:443: connect: connection refused", "dial tcp 127.0.0.1:40213: connect: connection refused",
		},
		`column "#" of relation "#" does not exist`: {
			`column "colour" of relation "orders" does not exist`, `column "a \" b" of relation "" does not exist`,
		},
		"at #: no":                         {"at 2026-11-26T10:00:00.5+01:00: no", "at 2026-01-01: no"},
		"deliver to crm: status 422":       {"deliver to crm: status 422"},
		"deliver to crm: status #, line #": {"deliver to crm: status 4222, line 422", "deliver to crm: status 4x2, line 1"},
		`unterminated "#"`:                 {`unterminated "abc`, `unterminated "`, `unterminated "\`},
		"":                                 {""},
		"the host was away.":               {"the host was away."},
		"Ümlaut # und so":                  {"Ümlaut ü7 und so", "Ümlaut 5 und so"},
	} {
		for _, message := range alike {
			if got := deadletter.Blank(message); got != want {
				t.Errorf("Blank(%q) = %q, want %q", message, got, want)
			}
		}
	}
}

func FuzzBlank(f *testing.F) {
	f.Add("get order 17: 503", 3)
	f.Add(`"`, 0)
	f.Fuzz(func(t *testing.T, message string, _ int) {
		got := deadletter.Blank(message)
		if !strings.Contains(message, "status ") && strings.ContainsAny(got, "0123456789") {
			t.Errorf("Blank(%q) = %q has digits left", message, got)
		}
		if again := deadletter.Blank(got); len(got) < 200 && again != got {
			t.Errorf("Blank(%q) = %q, and of that %q", message, got, again)
		}
	})
}

// fail makes a letter of the given cause.
func fail(t *testing.T, js jetstream.JetStream, source, message string, at time.Time) uint64 {
	t.Helper()
	n := messages(t, js, topology.StreamRaw)
	l := letter(t, js, store(t, js, trigger(source, fmt.Sprint("evt_", n)), []byte("{}")))
	l.DeadAt, l.Reason = at, consume.Reason{Class: fault.Exhausted, Message: message, Attempts: 8}
	return publish(t, js, l)
}

func TestLettersOfOneCauseAreOneGroup(t *testing.T) {
	t.Parallel()
	js := setup(t)
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for i := range 5 {
		fail(t, js, "orders", fmt.Sprintf("get order %d: 503 Service Unavailable", i), now.Add(time.Duration(i-5)*time.Hour))
	}
	fail(t, js, "orders", "get order 9: 404 Not Found", now.Add(-30*time.Hour))
	newest := fail(t, js, "stripe", "get order 9: 503 Service Unavailable", now.Add(-time.Minute))
	for _, seq := range []uint64{1, 2} {
		if _, err := deadletter.Replay(t.Context(), js, seq, deadletter.ReplayOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := deadletter.GroupBy(t.Context(), js, deadletter.Filter{}, now)
	if err != nil || len(got.Groups) != 3 || got.Ungrouped != 0 {
		t.Fatalf("GroupBy() = %d groups, %v, want 3", len(got.Groups), err)
	}
	if g := got.Groups[0]; g.Source != "stripe" || g.Sample.Sequence != newest || g.Hourly[23] != 1 {
		t.Errorf("first %+v, want stripe's, which is the latest", g)
	}
	g := got.Groups[1]
	if g.Source != "orders" || g.Stage != topology.StageEnrich || g.Class != fault.Exhausted || g.Destination != "" ||
		g.Message != "get order #: # Service Unavailable" || g.Total != 5 || g.Open != 3 || g.State != deadletter.GroupOpen ||
		!g.FirstAt.Equal(now.Add(-5*time.Hour)) || !g.LastAt.Equal(now.Add(-time.Hour)) || g.Sample.Sequence != 5 {
		t.Errorf("second %+v", g)
	}
	if want := [24]int{18: 1, 19: 1, 20: 1, 21: 1, 22: 1}; g.Hourly != want {
		t.Errorf("hourly %v, want %v", g.Hourly, want)
	}
	if old := got.Groups[2]; old.Message != "get order #: # Not Found" || old.Hourly != [24]int{} {
		t.Errorf("third %+v", old)
	}
	only, err := deadletter.GroupBy(t.Context(), js, deadletter.Filter{Fingerprint: g.Fingerprint}, now)
	if err != nil || len(only.Groups) != 1 || only.Groups[0].Total != 5 {
		t.Errorf("by its fingerprint: %+v, %v", only.Groups, err)
	}
}

// A group closes by itself once all its letters were dealt with and it stays
// quiet, and opens again with the next letter.
func TestGroupsCloseWhenTheyStayQuiet(t *testing.T) {
	t.Parallel()
	js := setup(t)
	began := time.Now()
	state := func(when time.Time) deadletter.GroupState {
		t.Helper()
		got, err := deadletter.GroupBy(t.Context(), js, deadletter.Filter{}, when)
		if err != nil || len(got.Groups) != 1 {
			t.Fatalf("GroupBy() = %+v, %v", got, err)
		}
		return got.Groups[0].State
	}
	first := fail(t, js, "orders", "get order 1: 503", began.Add(-100*time.Hour))
	second := fail(t, js, "orders", "get order 2: 503", began.Add(-90*time.Hour))
	if _, err := deadletter.Replay(t.Context(), js, first, deadletter.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := state(began.Add(1000 * time.Hour)); got != deadletter.GroupOpen {
		t.Errorf("with an open letter: %s", got)
	}
	if err := deadletter.Discard(t.Context(), js, second, deadletter.Discarded{At: time.Now(), Reason: "void"}); err != nil {
		t.Fatal(err)
	}
	if got := state(time.Now()); got != deadletter.GroupWatched {
		t.Errorf("just dealt with: %s, want watched", got)
	}
	if got := state(time.Now().Add(time.Hour)); got != deadletter.GroupClosed {
		t.Errorf("quiet for a while: %s, want closed", got)
	}
	fail(t, js, "orders", "get order 3: 503", time.Now().Add(2*time.Hour))
	if got := state(time.Now().Add(9 * time.Hour)); got != deadletter.GroupOpen {
		t.Errorf("failing again: %s, want open", got)
	}
}
