package lookback_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// stream has n messages, every tenth of which under a subject of its own; those
// of gone are removed.
func stream(t *testing.T, n int, gone ...uint64) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t)
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		subject := "s.common"
		if i%10 == 0 {
			subject = "s.rare"
		}
		if err := js.Conn().Publish(subject, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		info, err := s.Info(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("not stored within a minute: %v", err)
		}
		if info.State.Msgs == uint64(n) {
			break
		}
	}
	for _, seq := range gone {
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	return js
}

// read returns the sequences of all pages of size, 0 for one.
func read(t *testing.T, js jetstream.JetStream, o lookback.Options, size int) []uint64 {
	t.Helper()
	o.Stream = "S"
	var all []uint64
	for {
		n := 0
		next, err := lookback.Read(t.Context(), js, o, func(m consume.Message) bool {
			all = append(all, m.Sequence)
			n++
			return n != size
		})
		if err != nil {
			t.Fatal(err)
		}
		if next == 0 {
			return all
		}
		if o.Before != 0 && next >= o.Before {
			t.Fatalf("the page below %d goes on below %d", o.Before, next)
		}
		o.Before = next
	}
}

// Every message is seen once, newest first, whatever the pages are and whatever
// is missing.
func TestEveryMessageIsSeenOnce(t *testing.T) {
	t.Parallel()
	const n = 1500
	js := stream(t, n, 1, 2, 700, 701, 1499, 1500)
	var want, rare []uint64
	for seq := uint64(n); seq > 0; seq-- {
		if slices.Contains([]uint64{1, 2, 700, 701, 1499, 1500}, seq) {
			continue
		}
		want = append(want, seq)
		if seq%10 == 1 {
			rare = append(rare, seq)
		}
	}
	for _, headers := range []bool{false, true} {
		for _, size := range []int{0, 97} {
			if got := read(t, js, lookback.Options{HeadersOnly: headers}, size); !slices.Equal(got, want) {
				t.Errorf("headers only %t, pages of %d: %d messages, want %d", headers, size, len(got), len(want))
			}
			if got := read(t, js, lookback.Options{HeadersOnly: headers, Subjects: []string{"s.rare"}}, size); !slices.Equal(got, rare) {
				t.Errorf("of one subject, headers only %t, pages of %d: %d messages, want %d", headers, size, len(got), len(rare))
			}
		}
	}
}

func TestTimesBoundWhatIsSeen(t *testing.T) {
	t.Parallel()
	js := stream(t, 20)
	between := time.Now()
	for range 5 {
		if _, err := js.Publish(t.Context(), "s.common", nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		o    lookback.Options
		want string
	}{
		"since":           {lookback.Options{Since: between}, "[25 24 23 22 21]"},
		"until":           {lookback.Options{Until: between, Subjects: []string{"s.rare"}}, "[11 1]"},
		"since the end":   {lookback.Options{Since: between.Add(time.Hour)}, "[]"},
		"until the start": {lookback.Options{Until: between.Add(-time.Hour)}, "[]"},
		"nothing":         {lookback.Options{Since: between, Until: between}, "[]"},
		"below":           {lookback.Options{Since: between, Before: 23}, "[22 21]"},
		"below all":       {lookback.Options{Before: 1}, "[]"},
		"no such subject": {lookback.Options{Subjects: []string{"s.none"}}, "[]"},
		"far above":       {lookback.Options{Since: between, Before: 1 << 62}, "[25 24 23 22 21]"},
	} {
		if got := fmt.Sprint(read(t, js, tt.o, 2)); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// A call that finds nothing stops after a bounded number of windows and says
// where to go on, so that nobody waits for the whole of a large stream.
func TestACallIsBounded(t *testing.T) {
	t.Parallel()
	const n = 52_000
	js := stream(t, n)
	calls, before := 0, uint64(0)
	for {
		next, err := lookback.Read(t.Context(), js, lookback.Options{Stream: "S", Subjects: []string{"s.none"}, Before: before}, func(consume.Message) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		calls++
		if before = next; next == 0 {
			break
		}
	}
	if calls < 2 {
		t.Errorf("%d messages were looked through in one call", n)
	}
}
