package natstest

import (
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster starts three servers that replicate streams among each other, and
// waits until they can. They end with the test.
func Cluster(t testing.TB, sync bool) []*Server {
	t.Helper()
	servers, routes := make([]*Server, 3), make([]*url.URL, 3)
	for i := range servers { // a server needs a route before there is another
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", freePort(t))}
	}
	for i := range servers {
		s := newServer(t, sync)
		s.opts.ServerName, s.opts.Routes = fmt.Sprint("node-", i), routes
		port, err := strconv.Atoi(routes[i].Port())
		if err != nil {
			t.Fatal(err)
		}
		s.opts.Cluster = server.ClusterOpts{Name: "natstest", Host: "127.0.0.1", Port: port}
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
