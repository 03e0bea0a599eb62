package topology_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Services whose users may make nothing wait until the command has.
func TestEnsureWaitsForTheCommand(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	waiting := topology.DefaultConfig()
	waiting.Setup = topology.ByCommand
	ended := make(chan error, 1)
	go func() { ended <- topology.Ensure(t.Context(), js, waiting) }()
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Ensure() = %v, want nil once all is there", err)
	}
}

// With a file that is newer than the streams, or older, services work on.
func TestEnsureLeavesDifferencesToTheCommand(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Fatal(err)
	}
	c.Setup, c.Raw.MaxAge = topology.ByCommand, time.Hour
	if err := topology.Ensure(t.Context(), js, c); err != nil {
		t.Errorf("Ensure() = %v, want nil", err)
	}
	changes, err := topology.Diff(t.Context(), js, c)
	if err != nil || len(changes) == 0 {
		t.Errorf("Diff() = %v, %v, want what differs still", changes, err)
	}
}

func TestRestoreLeavesWhatIsMissingToTheCommand(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	c := topology.DefaultConfig()
	c.Setup = topology.ByCommand
	restored, err := topology.Restore(t.Context(), js, c)
	if want := len(topology.Streams(c)) + len(topology.Buckets(c)); err != nil || len(restored) != want {
		t.Fatalf("Restore() told of %d, %v; want %d", len(restored), err, want)
	}
	for _, r := range restored {
		if !errors.Is(r.Err, topology.ErrNotSetUp) {
			t.Errorf("%s %s: %v, want ErrNotSetUp", r.Kind, r.Name, r.Err)
		}
	}
	if changes, err := topology.Diff(t.Context(), js, c); err != nil || len(changes) != len(restored) {
		t.Errorf("%d are missing afterwards, %v; want all %d", len(changes), err, len(restored))
	}
}
