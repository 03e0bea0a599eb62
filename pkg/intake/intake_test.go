package intake_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/intake"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// clock is one that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func setup(t *testing.T) (js jetstream.JetStream, c *clock) {
	t.Helper()
	js = natstest.Run(t)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	// Messages are found by the time at which the server stored them.
	return js, &clock{time.Now().Add(-2 * time.Hour)}
}

func flush(t *testing.T, l *intake.Log) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, js jetstream.JetStream, from, now time.Time) intake.History {
	t.Helper()
	h, err := intake.Read(t.Context(), js, from, now)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistoryOfTwoReplicas(t *testing.T) {
	t.Parallel()
	js, c := setup(t)
	start := c.at
	sources, outcomes := []string{"a", "b"}, []string{"accepted", "refused"}
	one := intake.New(js, c.now, sources, outcomes)
	c.pass(30 * time.Second)
	two := intake.New(js, c.now, sources, outcomes)
	for range 3 {
		one.Count("a", "refused")
		two.Count("a", "refused")
		two.Count("b", "accepted")
		two.Count("c", "accepted")
		two.Count("a", "unheard of")
	}
	c.pass(30 * time.Second)
	flush(t, one)
	flush(t, two)
	c.pass(time.Hour) // nobody was there
	flush(t, intake.New(js, c.now, nil, nil))
	late := intake.New(js, c.now, sources, outcomes)
	late.Count("a", "accepted")
	c.pass(time.Minute)
	flush(t, late)
	end := c.at
	c.pass(10 * time.Minute)
	h := read(t, js, start, c.at)

	for name, tt := range map[string]struct {
		from, to time.Time
		want     intake.Counts
	}{
		"all":           {start, c.at, intake.Counts{"refused": 6, "accepted": 1}},
		"first minute":  {start, start.Add(time.Minute), intake.Counts{"refused": 6}},
		"first seconds": {start, start.Add(time.Second), intake.Counts{"refused": 3}},
		"between":       {start.Add(2 * time.Minute), start.Add(time.Hour), intake.Counts{}},
		"the end":       {end, end, intake.Counts{"accepted": 1}},
	} {
		if got := h.Counts("a", tt.from, tt.to); !maps.Equal(got, tt.want) {
			t.Errorf("%s: counts %v, want %v", name, got, tt.want)
		}
	}
	if got := h.Counts("b", start, c.at); !maps.Equal(got, intake.Counts{"accepted": 3}) {
		t.Errorf("counts of b %v", got)
	}

	for name, tt := range map[string]struct {
		at        time.Time
		up, known bool
	}{
		"before all":       {start.Add(-time.Second), false, false},
		"first":            {start, true, true},
		"between":          {start.Add(2 * time.Minute), false, true},
		"last":             {end, true, true},
		"just now":         {c.at.Add(-time.Minute), false, false},
		"after the end":    {end.Add(time.Minute), false, true},
		"in the future":    {c.at.Add(time.Minute), false, false},
		"first of the two": {start.Add(10 * time.Second), true, true},
	} {
		if up, known := h.Up(tt.at); up != tt.up || known != tt.known {
			t.Errorf("%s: Up() = %t, %t, want %t, %t", name, up, known, tt.up, tt.known)
		}
	}
}

func TestWhatIsNotStoredIsNotLost(t *testing.T) {
	t.Parallel()
	js, c := setup(t)
	start := c.at
	l := intake.New(js, c.now, []string{"a"}, []string{"accepted"})
	l.Count("a", "accepted")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Flush(ended); err == nil {
		t.Fatal("Flush() = nil with a context that has ended")
	}
	c.pass(time.Minute)
	l.Count("a", "accepted")
	flush(t, l)
	flush(t, l)
	h := read(t, js, start, c.at)
	if got := h.Counts("a", start, c.at); got["accepted"] != 2 {
		t.Errorf("counts %v, want 2 accepted", got)
	}
	if up, known := h.Up(start); !up || !known {
		t.Errorf("Up(start) = %t, %t, want true", up, known)
	}
}

// deaf is a client that doesn't hear that its first message was stored.
type deaf struct {
	jetstream.JetStream
	heard bool
}

func (d *deaf) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := d.JetStream.Publish(ctx, subject, data, opts...)
	if err == nil && !d.heard {
		d.heard = true
		return nil, context.DeadlineExceeded
	}
	return ack, err
}

// An alarm goes by shares of what was counted, so nothing may be counted twice.
func TestWhatWasStoredWithoutAnAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	js, c := setup(t)
	start := c.at
	l := intake.New(&deaf{JetStream: js}, c.now, []string{"a"}, []string{"accepted"})
	l.Count("a", "accepted")
	c.pass(time.Minute)
	if err := l.Flush(t.Context()); err == nil {
		t.Fatal("Flush() = nil without an answer")
	}
	l.Count("a", "accepted")
	c.pass(time.Minute)
	flush(t, l)
	h := read(t, js, start, c.at)
	if got := h.Counts("a", start, c.at); got["accepted"] != 2 {
		t.Errorf("counts %v, want 2 accepted", got)
	}
	if up, known := h.Up(c.at); !up || !known {
		t.Errorf("Up() = %t, %t at the end, want true", up, known)
	}
}

func TestForeignMessagesAreLeftOut(t *testing.T) {
	t.Parallel()
	js, c := setup(t)
	for _, text := range []string{"", "x", `{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, `[1]`} {
		if _, err := js.Publish(t.Context(), topology.SubjectIntake, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	h := read(t, js, c.at, c.at)
	if up, known := h.Up(c.at.Add(-time.Hour)); up || known {
		t.Errorf("Up() = %t, %t, want unknown", up, known)
	}
}

func ExampleHistory() {
	var h intake.History // of a pipeline that has noted nothing yet
	up, known := h.Up(time.Now())
	fmt.Println(up, known, len(h.Counts("orders", time.Now(), time.Now())))
	// Output: false false 0
}

// A tail has each message once, and begins anew when its stream does.
func TestTailReadsEachMessageOnce(t *testing.T) {
	t.Parallel()
	js, c := setup(t)
	l := intake.New(js, c.now, []string{"a"}, []string{"accepted"})
	tail := intake.NewTail(js, time.Now().Add(-time.Hour))
	anew := false
	next := func(want ...int64) {
		t.Helper()
		var got []int64
		anew = false
		err := tail.Read(t.Context(), func() { anew = true }, func(s intake.Span) { got = append(got, s.Sources["a"].Accepted()) })
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Read() has counts %v, %v; want %v", got, err, want)
		}
	}
	next()
	for range 3 {
		l.Count("a", "accepted")
	}
	flush(t, l)
	flush(t, l)
	next(3, 0)
	next()
	if _, err := js.Publish(t.Context(), topology.SubjectIntake, []byte("no span")); err != nil {
		t.Fatal(err)
	}
	l.Count("a", "accepted")
	flush(t, l)
	next(1)
	if err := js.DeleteStream(t.Context(), topology.StreamIntake); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		err := topology.Ensure(t.Context(), js, topology.DefaultConfig())
		if err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	l.Count("a", "accepted")
	flush(t, l)
	if anew {
		t.Error("it begins anew while its stream goes on")
	}
	next(1)
	if !anew {
		t.Error("it doesn't begin anew with its stream")
	}
}
