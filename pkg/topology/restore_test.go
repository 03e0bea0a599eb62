package topology_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What is missing is made, and what is there is left as it is, whatever it looks
// like.
func TestRestoreMakesOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	js := natstest.Run(t)
	ctx := t.Context()
	c := topology.DefaultConfig()
	if err := topology.Ensure(ctx, js, c); err != nil {
		t.Fatal(err)
	}
	if all, err := topology.Restore(ctx, js, c); err != nil || len(all) != 0 {
		t.Fatalf("Restore() = %+v, %v, of what is complete", all, err)
	}
	if err := js.DeleteStream(ctx, topology.StreamDLQ); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(ctx, topology.BucketLeases); err != nil {
		t.Fatal(err)
	}
	other := c
	other.Raw.MaxAge = 9 * 24 * time.Hour
	var names []string
	for end := time.Now().Add(time.Minute); len(names) < 2 && time.Now().Before(end); { // the server may refuse for a moment
		all, err := topology.Restore(ctx, js, other)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.Err == nil {
				names = append(names, r.Kind+" "+r.Name)
			}
		}
	}
	if !slices.Equal(names, []string{"stream TERCEL_DLQ", "bucket tercel_leases"}) {
		t.Errorf("restored %v, want the stream and the bucket", names)
	}
	raw, err := js.Stream(ctx, topology.StreamRaw)
	if err != nil || raw.CachedInfo().Config.MaxAge != c.Raw.MaxAge {
		t.Errorf("TERCEL_RAW is kept for %s, %v, want it untouched", raw.CachedInfo().Config.MaxAge, err)
	}
	if changes, err := topology.Diff(ctx, js, c); err != nil || len(changes) != 0 {
		t.Errorf("differs: %v, %v", changes, err)
	}
}
