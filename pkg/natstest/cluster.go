package natstest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster starts three servers that replicate streams among each other, and
// waits until they can. They end with the test.
func Cluster(t testing.TB, sync bool) []*Server {
	t.Helper()
	return ClusterVia(t, sync, func(_, _ int, addr string) string { return addr })
}

// ClusterVia is [Cluster] with servers that can be parted: via returns the address
// by which server from reaches server to, which takes routes of others at addr.
// They know each other by these addresses alone.
func ClusterVia(t testing.TB, sync bool, via func(from, to int, addr string) string) []*Server {
	t.Helper()
	servers, ports := make([]*Server, 3), make([]int, 3)
	for i := range servers { // a server needs a route before there is another
		ports[i] = freePort(t)
	}
	for i := range servers {
		s := newServer(t, sync)
		s.opts.ServerName = fmt.Sprint("node-", i)
		for j, port := range ports {
			if j != i {
				s.opts.Routes = append(s.opts.Routes, &url.URL{Scheme: "nats", Host: via(i, j, fmt.Sprint("127.0.0.1:", port))})
			}
		}
		// What it would tell others of itself leads nowhere, and clients are told of
		// no server beside those that they are given.
		s.opts.Cluster = server.ClusterOpts{
			Name: "natstest", Host: "127.0.0.1", Port: ports[i], Advertise: "127.0.0.1:1", NoAdvertise: true,
		}
		s.Resume()
		t.Cleanup(s.Stop)
		servers[i] = s
	}
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready(servers) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("nats cluster: no leader within 30s")
		}
	}
	return servers
}

func ready(servers []*Server) bool {
	for _, s := range servers {
		if s.srv.JetStreamIsLeader() {
			return len(s.srv.JetStreamClusterPeers()) == len(servers)
		}
	}
	return false
}

// ConnectAll opens a connection that knows all of the servers, ends with the
// test and moves to another server when its own goes away.
func ConnectAll(t testing.TB, servers []*Server) *nats.Conn {
	t.Helper()
	urls := ""
	for _, s := range servers {
		urls += s.URL() + ","
	}
	return connect(t, urls[:len(urls)-1])
}
