package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Nodes know each other by certificates of their own authority, keep every stream
// three times, and lose nothing that was acknowledged when one of them is killed.
// A node with a certificate of another authority isn't let in. (Promise 1.)
func TestAClusterLosesANodeAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newNATSFolder(t)
	nodes, urls, routes := make([]*process, 3), make([]string, 3), make([]string, 3)
	for i := range routes {
		routes[i] = "nats://" + freeAddr(t)
	}
	for i := range nodes {
		nodes[i], urls[i] = f.server("cluster.conf", fmt.Sprint("node-", i), "--cluster", routes[i], "--routes", strings.Join(routes, ","))
		nodes[i].ready = listens(strings.TrimPrefix(urls[i], "nats://")) // healthy only with the others
		nodes[i].start()
	}
	f.syncs()
	f.replicas = 3
	f.setUp(strings.Join(urls, ","), teamPipeline, nil)
	admin := f.connect("ingress", strings.Join(urls, ","))
	var acked []uint64
	publish := func(n int) {
		for range n {
			eventually(t, 2*time.Minute, "a trigger is acknowledged", func() error {
				ack, err := admin.js.Publish(t.Context(), "tercel.raw.orders._.made", []byte("x"), jetstream.WithRetryAttempts(0))
				if err == nil {
					acked = append(acked, ack.Sequence)
				}
				return err
			})
		}
	}
	publish(50)
	s, err := f.connect("admin", strings.Join(urls, ",")).js.Stream(t.Context(), topology.StreamRaw)
	if err != nil {
		t.Fatal(err)
	}
	info := s.CachedInfo()
	if info.Config.Replicas != 3 || len(info.Cluster.Replicas) != 2 {
		t.Fatalf("%d replicas, %+v; want a leader and two", info.Config.Replicas, info.Cluster)
	}
	var killed int
	if _, err := fmt.Sscanf(info.Cluster.Leader, "node-%d", &killed); err != nil {
		t.Fatal(err)
	}
	nodes[killed].kill()
	publish(50)
	nodes[killed].start()
	alive := f.connect("admin", urls[killed])
	eventually(t, 2*time.Minute, "the node has caught up and all is there", func() error {
		s, err := alive.js.Stream(t.Context(), topology.StreamRaw)
		if err != nil {
			return err
		}
		info := s.CachedInfo()
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return fmt.Errorf("%s is behind", r.Name)
			}
		}
		if info.State.Msgs < uint64(len(acked)) || info.State.LastSeq < slices.Max(acked) {
			return fmt.Errorf("%d messages to %d, %d were acknowledged", info.State.Msgs, info.State.LastSeq, len(acked))
		}
		return nil
	})
	f.strangerIsRefused(routes)
}

// strangerIsRefused starts a node whose certificates are of another authority.
func (f *natsFolder) strangerIsRefused(routes []string) {
	f.t.Helper()
	stranger := newNATSFolder(f.t)
	srv, url := stranger.server("cluster.conf", "stranger", "--cluster", "nats://"+freeAddr(f.t), "--routes", strings.Join(routes, ","))
	srv.ready = listens(strings.TrimPrefix(url, "nats://"))
	srv.start()
	eventually(f.t, time.Minute, "the stranger is refused", func() error {
		if text := srv.output(); !strings.Contains(text, "TLS route handshake error") && !strings.Contains(text, "certificate") {
			return fmt.Errorf("its log has\n%s", text)
		}
		return nil
	})
	if text := srv.output(); strings.Contains(text, "JetStream cluster new metadata leader") {
		f.t.Errorf("the stranger has joined:\n%s", text)
	}
}
