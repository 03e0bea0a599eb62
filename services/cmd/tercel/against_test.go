package main

import (
	"database/sql"
	"encoding/csv"
	"path/filepath"
	"strings"
	"testing"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// Promise 6: what a destination has lost comes again, although every stage of
// the pipeline has seen it.
func TestPromise6WhatADestinationLostComesAgain(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	s.put("1", 1)
	s.put("2", 1)
	p := startLive(t, s, liveOptions{
		reconcile: `, against: [ledger, "destination:warehouse"]`,
		more:      "destinations: {warehouse: {sqlite: {path: \"DIR/warehouse.db\"}}}\n",
	})
	db, err := sql.Open("sqlite", "file:"+filepath.Join(filepath.Dir(p.config), "warehouse.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	records := func() (n int) {
		if db.QueryRow("SELECT count(*) FROM records").Scan(&n) != nil {
			return -1 // it isn't there yet
		}
		return n
	}
	p.send("d-1", `{"type":"order.made","id":"1"}`)
	p.send("d-2", `{"type":"order.made","id":"2"}`)
	until(t, "both records are delivered", func() bool { return records() == 2 })
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }
	run := func() *adminv1.ReconciliationReport {
		return reconciled(t, with("reconcile", "run", "orders", "order")...)
	}
	until(t, "a run finds all of it there", func() bool {
		r := run()
		return r.GetCounts()["missed"] == 0 && r.GetDestinations()["warehouse"].GetCounts()["matched"] == 2
	})
	if _, err := db.Exec("DELETE FROM records WHERE record_id = '1'"); err != nil {
		t.Fatal(err)
	}
	if r := run(); r.GetCounts()["missed"] != 0 || r.GetDestinations()["warehouse"].GetCounts()["missed"] != 1 || r.GetDestinations()["warehouse"].GetCounts()["repaired"] != 1 {
		t.Errorf("report %v, want the record missed at the destination alone", r)
	}
	until(t, "the record is there again", func() bool { return records() == 2 })

	for format, want := range map[string]string{
		"json": `"destination": "warehouse"`, "md": "| 1 |", "csv": "missed,warehouse,,",
	} {
		o := tercel(t, "", with("reconcile", "report", "--gaps", "--source", "orders", "--format", format)...)
		if o.code != boot.OK || !strings.Contains(o.out, want) {
			t.Errorf("%s: exit %d, %q in\n%s%s", format, o.code, want, o.out, o.err)
		}
		if format != "csv" {
			continue
		}
		if rows, err := csv.NewReader(strings.NewReader(o.out)).ReadAll(); err != nil || len(rows) < 2 {
			t.Errorf("csv of %d rows: %v", len(rows), err)
		}
	}
}
