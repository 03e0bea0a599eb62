package cursor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

func cursors(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), topology.BucketCursors)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// A list has each cursor once although they are written while it is read, and
// takes a few requests however many there are.
func TestAListHasEachCursorOnceWhileTheyAreWritten(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	js, writer := jet(t, server), jet(t, server)
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 300 {
		want = append(want, cursor.Key{Source: []string{"hub", "orders", "shop"}[i%3], Account: "_", Resource: fmt.Sprintf("r%03d", i)}.String())
	}
	slices.Sort(want)
	write := func(key string) {
		if _, err := writer.PublishAsync("$KV."+topology.BucketCursors+"."+key, []byte("{}")); err != nil {
			t.Error(err)
		}
	}
	for _, key := range append(slices.Clone(want), "_backfill.b1", "_backfill.b1._", "_paused.orders.=.=") {
		write(key)
	}
	<-writer.PublishAsyncComplete()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			write(want[i*7%len(want)])
			if i%50 == 0 {
				<-writer.PublishAsyncComplete()
			}
		}
	})
	defer writing.Wait()
	defer stop()
	s := open(t, js)
	for source, want := range map[string][]string{
		"": want, "orders": slices.DeleteFunc(slices.Clone(want), func(key string) bool { return !strings.HasPrefix(key, "orders.") }), "order": nil, "*": nil,
	} {
		for range 10 {
			before := js.Conn().Stats().OutMsgs
			all, err := s.List(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range all {
				got = append(got, e.Key.String())
			}
			if !slices.Equal(got, want) {
				t.Fatalf("List(%q) has %d cursors of %d: %v", source, len(got), len(want), got)
			}
			if n := js.Conn().Stats().OutMsgs - before; n > 30 {
				t.Errorf("List(%q) has sent %d messages, want a few", source, n)
			}
		}
	}
}

// cut is a client whose watches are cut off after their first entry.
type cut struct{ jetstream.JetStream }

type (
	cutBucket struct{ jetstream.KeyValue }
	cutWatch  struct{ jetstream.KeyWatcher }
)

func (c cut) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	kv, err := c.JetStream.KeyValue(ctx, bucket)
	return cutBucket{kv}, err
}

func (b cutBucket) WatchFiltered(ctx context.Context, keys []string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := b.KeyValue.WatchFiltered(ctx, keys, opts...)
	return cutWatch{w}, err
}

func (w cutWatch) Updates() <-chan jetstream.KeyValueEntry {
	ended := make(chan jetstream.KeyValueEntry)
	close(ended)
	return ended
}

// A list that was cut off is an error: half of one would say that nothing is
// paused, and that there is nothing to resume.
func TestAListThatIsCutOffIsAnError(t *testing.T) {
	t.Parallel()
	js := setup(t)
	s := open(t, js)
	save(t, s, load(t, s), cursor.Cursor{StartedAt: noon})
	scope := cursor.Scope{Source: "orders"}
	if _, err := s.Pause(t.Context(), scope, noon); err != nil {
		t.Fatal(err)
	}
	h, err := s.Health(t.Context(), "orders")
	if err == nil {
		_, err = s.SaveHealth(t.Context(), h, h.Health)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, cut{js})
	if ended, left, err := s.Resume(t.Context(), scope); err == nil {
		t.Errorf("Resume() = %v, %v without an error", ended, left)
	}
	if all, err := s.List(t.Context(), ""); err == nil {
		t.Errorf("List() = %v without an error", all)
	}
	if all, err := s.Healths(t.Context()); err == nil {
		t.Errorf("Healths() = %v without an error", all)
	}
}

// What is removed while lists are read is in none of them, and nothing is waited
// for that isn't there.
func TestAListHasNothingThatWasRemoved(t *testing.T) {
	t.Parallel()
	js := setup(t)
	s := open(t, js)
	for _, account := range []string{"a", "b", "c"} {
		save(t, s, cursor.Entry{Key: cursor.Key{Source: "orders", Account: account, Resource: "order"}}, cursor.Cursor{StartedAt: noon})
	}
	kv := cursors(t, js)
	if err := kv.Delete(t.Context(), "orders.a.order"); err != nil {
		t.Fatal(err)
	}
	if err := kv.Purge(t.Context(), "orders.b.order"); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(t.Context(), ""); err != nil || len(all) != 1 || all[0].Key.Account != "c" {
		t.Errorf("List() = %+v, %v; want the one that is left", all, err)
	}
}
