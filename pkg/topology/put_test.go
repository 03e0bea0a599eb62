package topology_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// Of two who write a key at the same revision one is first, and the other hears
// of it: also where the key was removed, at whatever revision that left it.
func TestPutWritesAtTheRevisionThatWasRead(t *testing.T) {
	t.Parallel()
	kv, err := natstest.Run(t).CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(when string, revision uint64, conflict bool) uint64 {
		t.Helper()
		stored, err := topology.Put(t.Context(), kv, "key", []byte("x"), revision)
		if topology.Conflict(err) != conflict || err != nil && !conflict {
			t.Fatalf("%s: Put() = %v, want a conflict %t", when, err, conflict)
		}
		return stored
	}
	first := put("the first", 0, false)
	put("another first", 0, true)
	second := put("the next", first, false)
	put("of the first again", first, true)
	for when, remove := range map[string]func() error{
		"deleted": func() error { return kv.Delete(t.Context(), "key") },
		"purged":  func() error { return kv.Purge(t.Context(), "key") },
	} {
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		put(when+", to one who doesn't know", second, true)
		second = put(when, 0, false)
		put(when+", again", 0, true)
	}
	if _, err := topology.Put(t.Context(), kv, "no key", nil, 0); err == nil || topology.Conflict(err) {
		t.Errorf("Put() under what is no key = %v, want another error than a conflict", err)
	}
}

func TestConflictKnowsBothOfItsCodes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"of one node":               {&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}, true},
		"of a cluster, in flight":   {&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant}, true},
		"with the key that it's of": {fmt.Errorf("save: %w", &jetstream.APIError{ErrorCode: 10164}), true},
		"another of the server's":   {&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamNotFound}, false},
		"another":                   {errors.New("wrong last sequence"), false},
		"none":                      {nil, false},
	} {
		if got := topology.Conflict(tt.err); got != tt.want {
			t.Errorf("%s: Conflict() = %t, want %t", name, got, tt.want)
		}
	}
}
