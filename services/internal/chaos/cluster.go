package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// nodes is the number of NATS servers.
const nodes = 3

// server is the program that they are.
const server = "nats-server"

func nodeName(i int) string { return fmt.Sprint("node-", i+1) }

func nodeNames() []string { return memberNames()[:nodes] }

// nodeFile is a server's configuration. What is acknowledged is on disk first.
// Nodes reach each other by the routes alone: what they would tell others of
// themselves leads nowhere, and clients are told of no other server.
const nodeFile = `
server_name: %s
listen: %q
http: %q
jetstream {store_dir: %q, max_mem: 64M, max_file: 4G, sync_interval: always}
cluster {name: chaos, listen: %q, advertise: "127.0.0.1:1", no_advertise: true, routes: [%s]}
`

// startCluster starts the NATS servers.
func (w *world) startCluster(ctx context.Context) error {
	addrs, err := freeAddrs(3 * nodes)
	if err != nil {
		return err
	}
	clients, routes, monitors := addrs[:nodes], addrs[nodes:2*nodes], addrs[2*nodes:]
	for i := range nodes {
		var others []string
		for j := range nodes {
			if j == i {
				continue
			}
			addr, err := w.via(nodeName(i), nodeName(j), routes[j])
			if err != nil {
				return err
			}
			others = append(others, fmt.Sprintf("%q", "nats-route://"+addr))
		}
		store, err := w.newStore(nodeName(i))
		if err != nil {
			return err
		}
		file := w.path("config", nodeName(i)+".conf")
		text := fmt.Sprintf(nodeFile, nodeName(i), clients[i], monitors[i], store, routes[i], strings.Join(others, ", "))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		m := w.add(member{name: nodeName(i), kind: server, addr: clients[i], health: "http://" + monitors[i]}, []string{"-c", file})
		if err := m.Launch(); err != nil {
			return err
		}
	}
	if err := w.ready(ctx); err != nil {
		return err
	}
	return w.connect(ctx, clients)
}

// connect connects to the servers themselves, to whichever is there.
func (w *world) connect(ctx context.Context, addrs []string) (err error) {
	w.nc, err = nats.Connect(strings.Join(addrs, ","), nats.Name("chaos"), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2)) // one that stands still is left
	if err != nil {
		return err
	}
	w.ends = append(w.ends, w.nc.Close)
	if w.js, err = jetstream.New(w.nc, jetstream.WithDefaultTimeout(10*time.Second)); err != nil {
		return err
	}
	// Healthy nodes may still be electing the leader of the whole.
	return asking(ctx, func(ctx context.Context) error {
		_, err := w.js.AccountInfo(ctx)
		return err
	})
}

// natsURLs are the addresses by which a service reaches the servers.
func (w *world) natsURLs(from string) (string, error) {
	var urls []string
	for i := range nodes {
		addr, err := w.via(from, nodeName(i), w.members[nodeName(i)].addr)
		if err != nil {
			return "", err
		}
		urls = append(urls, "nats://"+addr)
	}
	return strings.Join(urls, ","), nil
}
