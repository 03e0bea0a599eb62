package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/fault"
)

// What works at once is noted nowhere, since there is most of it, and neither is
// what was no attempt.
func TestOnlyAttemptsThatFailedAndTheirEndAreNoted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var mu sync.Mutex
	var got []string
	f.note = func(m consume.Message, a consume.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(string(m.Data), " ", m.Attempt, " ", a.Outcome, " ", a.Err))
		if a.Took <= 0 {
			t.Errorf("%s took %s", m.Data, a.Took)
		}
	}
	waited := false
	f.start(consume.Each(func(_ context.Context, m consume.Message) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case string(m.Data) == "twice" && m.Attempt < 2:
			return errors.New("not yet")
		case string(m.Data) == "never":
			return fault.Permanent(errors.New("no use"))
		case string(m.Data) == "waits" && !waited:
			waited = true
			return fault.Postpone(errors.New("out"), time.Millisecond)
		}
		return nil
	}))
	f.send("once", "twice", "never", "waits")
	f.settled()
	f.eventually("three are noted", func() bool { // the answer comes first
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= 3
	})
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(got)
	want := []string{"never 1 terminated no use", "twice 1 delayed not yet", "twice 2 acked <nil>"}
	if !slices.Equal(got, want) {
		t.Errorf("noted %q, want %q", got, want)
	}
}
