package model_test

import (
	"fmt"
	"strings"
	"time"
)

// setting is what a history is played in: how the provider lists, and what the
// pipeline file has beside that.
type setting struct {
	shape
	// scheduled says that runs begin by schedule, and not only by hand.
	scheduled bool
	// deletes says that orphans are looked for, by schedule: then webhooks of
	// deletes may be lost.
	deletes bool
	// old says that there are records from before the time that is listed by
	// itself. They take a backfill.
	old bool
}

// sameSetting is how many seeds in a row have the same setting, so that few
// histories need few worlds.
const sameSetting = 4

// settingOf is the one of a seed.
func settingOf(seed uint64) setting {
	n := seed / sameSetting
	s := setting{shape: shapes[n%uint64(len(shapes))]}
	n /= uint64(len(shapes))
	switch n % 8 { // most have nothing more, since that takes time
	case 0:
		s.scheduled, s.deletes = true, s.events == ""
	case 1:
		s.scheduled, s.old = true, true
	case 2:
		s.deletes, s.old = s.events == "", true
	}
	return s
}

func (s setting) String() string {
	name := s.name
	if s.scheduled {
		name += ", by schedule"
	}
	if s.deletes {
		name += ", with scans"
	}
	if s.old {
		name += ", after older records"
	}
	return name
}

// target is what is reconciled.
func (s setting) target() string {
	if s.events != "" {
		return "events"
	}
	return "order"
}

const (
	// settle is what every window leaves to come in by itself.
	settle = time.Minute
	// every is the time between two scheduled runs, and scanEvery the one between
	// two scans for orphans, give or take a tenth.
	every     = 20 * time.Minute
	scanEvery = time.Hour
	// start is how far back the first window reaches where there is more. No
	// history takes so long.
	start = 20 * time.Hour
)

// Records from before start are between these old when a history begins.
const (
	youngest = 48 * time.Hour
	oldest   = 120 * time.Hour
)

const pipelineFile = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:SECRET]
    event: {id: %[1]s, type: body.kind}
    accounts: [%[2]s]
    api: {base: %[3]q, allow_private: true, concurrency: 4}
    %[4]s
destinations:
  database: {sqlite: {path: %[5]q}}
streams: {durability: relaxed}
ingress: {store_timeout: 1s}
enricher: {ack_wait: 1s, max_attempts: 50, retry_min: 10ms, retry_max: 100ms}
sink: {ack_wait: 1s, max_attempts: 50, retry_min: 10ms, retry_max: 100ms}
reconciler: {lease_ttl: 60s, catch_up: 300ms, repair_rate: 10000, audit_every: 24h}
`

// file is the pipeline file of a world.
func (s setting) file(api, db string, accounts []string) []byte {
	id := "body.id"
	if s.unsigned {
		id = "header.X-Delivery"
	}
	return fmt.Appendf(nil, pipelineFile, id, strings.Join(accounts, ", "), api, s.lists(), db)
}

// lists says what is listed, and how.
func (s setting) lists() string {
	wait := "87600h"
	if s.scheduled {
		wait = every.String()
	}
	common := fmt.Sprintf("every: %s, settle: %s, overlap: %s", wait, settle, s.overlap)
	if s.old && !strings.Contains(s.reconcile, "start:") {
		common += ", start: " + start.String()
	}
	resource := fmt.Sprintf("triggers: [order.*], id: body.order, get: '/{account}/orders/{id}', version: %s", s.version)
	if s.events != "" {
		return fmt.Sprintf("resources: {order: {%s}}\n    events: {%s, %s}", resource, s.events, common)
	}
	if s.deletes {
		since := ""
		if strings.Contains(s.reconcile, "slice:") {
			since = ", since: 2025-12-25"
		}
		common += fmt.Sprintf(", deletes: {every: %s, tombstone: true, max_share: 1%s}", scanEvery, since)
	}
	return fmt.Sprintf("resources: {order: {%s, reconcile: {%s, time: record.updated_at, %s}}}", resource, s.reconcile, common)
}
