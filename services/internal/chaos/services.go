package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tercelhq/tercel/services/internal/chaos/balancer"
)

// Of the provider, as the pipeline knows it.
const (
	source      = "orders"
	warmup      = "warmup"
	resource    = "order"
	destination = "warehouse"
	secret      = "the webhooks' secret of the fault suite"
	token       = "the API token of the fault suite"
)

// kinds are the services, in the order of their start, and howMany of each run.
var (
	kinds   = []string{"ingress", "enricher", "sink", "reconciler"}
	howMany = map[string]int{"ingress": 2, "enricher": 2, "sink": 1, "reconciler": 2}
)

// pipelineFile is the pipeline: addresses of API, ingress and health are filled
// in. What has its time in hours is done within seconds or minutes.
//
// The source warmup is what the load is calibrated with.
const pipelineFile = `
sources:
  warmup:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:CHAOS_SECRET]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
    dedup: {horizon: %[4]s}
    api: {base: %[1]q, token: env:CHAOS_TOKEN, allow_private: true}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        related: {customer: "/customers/{record.customer_id}"}
        version: record.updated_at
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:CHAOS_SECRET]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
    dedup: {horizon: %[4]s}
    api: {base: %[1]q, token: env:CHAOS_TOKEN, allow_private: true}
    resources:
      order:
        triggers: [order.*]
        id: body.order.id
        get: /orders/{id}
        related: {customer: "/customers/{record.customer_id}"}
        version: record.updated_at
        reconcile:
          list: /orders
          since: updated_after
          order: ascending
          items: orders
          next: {cursor: next_cursor, param: cursor}
          limit: {param: limit, size: 100}
          every: 5s
          settle: 2s
          overlap: 30s
destinations:
  warehouse: {postgres: {dsn: env:CHAOS_DSN}}
streams:
  replicas: 3
  durability: synced
  raw: {max_age: %[4]s}
  enriched: {max_age: %[4]s}
  dead_letters: {max_age: %[4]s}
  reports: {max_age: %[4]s}
ingress: {listen: %[2]q, drain_grace: 1s}
enricher: {ack_wait: 10s, retry_min: 200ms, retry_max: 5s, give_up_after: %[5]s}
sink: {ack_wait: 10s, retry_min: 200ms, retry_max: 5s, give_up_after: %[5]s}
reconciler: {lease_ttl: 5s, repair_rate: 1000, audit_every: 10s, audit_settle: 2m, catch_up: 10s, collect: {ack_wait: 10s}}
telemetry: {listen: %[3]q}
`

// memberNames are the names of all processes but the database's, in the order of
// their start.
func memberNames() (names []string) {
	for i := range nodes {
		names = append(names, nodeName(i))
	}
	return append(names, serviceNames()...)
}

func serviceNames() (names []string) {
	for _, kind := range kinds {
		for i := range howMany[kind] {
			names = append(names, fmt.Sprint(kind, "-", i+1))
		}
	}
	return names
}

// startServices starts the pipeline, with a balancer in front.
func (w *world) startServices(ctx context.Context) error {
	w.balancer = balancer.Start()
	w.ends = append(w.ends, w.balancer.Close)
	for _, kind := range kinds {
		for i := range howMany[kind] {
			m, err := w.newService(fmt.Sprint(kind, "-", i+1), kind)
			if err != nil {
				return err
			}
			if err := m.Start(ctx); err != nil {
				return err
			}
			if kind == "ingress" {
				w.balancer.Add(m.addr, m.Ready)
			}
		}
	}
	return nil
}

// newService writes the configuration of a service that has not been started.
func (w *world) newService(name, kind string) (*member, error) {
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	listen, health := addrs[0], addrs[1]
	urls, err := w.natsURLs(name)
	if err != nil {
		return nil, err
	}
	api, err := w.via(name, "api", w.apiAddr)
	if err != nil {
		return nil, err
	}
	db, err := w.via(name, database, w.db.Addr())
	if err != nil {
		return nil, err
	}
	file := w.path("config", name+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, pipelineFile, "http://"+api, listen, health, w.retention, w.retention/2), 0o600); err != nil {
		return nil, err
	}
	return w.add(member{name: name, kind: kind, addr: listen, health: "http://" + health}, []string{"--config", file, "--nats", urls},
		"CHAOS_SECRET="+secret, "CHAOS_TOKEN="+token, "CHAOS_DSN="+w.dsn(db)), nil
}
