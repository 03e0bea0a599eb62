package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/boot"
)

// The tests of the example pass, and are about what it does: each of them fails
// when its expression goes.
func TestTheExamplesTestsPass(t *testing.T) {
	for _, name := range []string{"ORDERS_WEBHOOK_SECRET", "ORDERS_API_TOKEN", "CRM_SECRET"} {
		t.Setenv(name, "whsec_c2VjcmV0LW9mLWVub3VnaC1sZW5ndGg=")
	}
	examples, err := filepath.Glob("../../../deploy/examples/*.test.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no tests of examples: %v", err)
	}
	for _, file := range examples {
		out := ok(t, "test", "-c", strings.TrimSuffix(file, ".test.yaml")+".yaml")
		if !strings.HasSuffix(out, " 0 failed\n") {
			t.Errorf("%s:\n%s", file, out)
		}
	}
}

// cases is a test file with one test, whose expectation is what follows.
func cases(expect string) string {
	return `
tests:
  - name: a large order
    source: orders
    body: {type: order.paid, ids: [900719925474099312]}
    records: {/orders/900719925474099312: {id: 900719925474099312, version: 3, price: 1.10, tags: [a, b]}}
    expect: ` + expect + "\n"
}

// A result is held against what is expected, as far as that goes, and each
// difference is named.
func TestTestNamesEachDifference(t *testing.T) {
	t.Parallel()
	config := writeTry(t, "http://127.0.0.1:9")
	for expect, want := range map[string][]string{
		`{accepted: true, type: order.paid, body: {record: {price: 1.1, tags: [a, b]}}, destinations: {some: {payload: {v: 3}}}}`: nil,
		`{destinations: {some: {delivered: false, payload: {v: 4, w: 1}}}}`: {
			"destinations.some.delivered: want false, got true", "destinations.some.payload.v: want 4, got 3",
			"destinations.some.payload.w: want 1, but there is only v",
		},
		`{destination: {some: {}}}`:                  {"destination: want {\"some\":{}}, but there is only accepted, account, body"},
		`{destinations: {none: {delivered: true}}}`:  {"destinations.none: want {\"delivered\":true}, but there is only all, some"},
		`{body: {record: {tags: [a]}}}`:              {`body.record.tags: want ["a"], got ["a","b"]`},
		`{body: {record: {id: 900719925474099313}}}`: {"body.record.id: want 900719925474099313, got 900719925474099312"},
		`{record_id: 900719925474099312}`:            {`record_id: want 900719925474099312, got "900719925474099312"`},
		`{body: {record: {price: 1.2, id: {}}}}`:     {"body.record.id: want {}, got 900719925474099312", "body.record.price: want 1.2, got 1.10"},
	} {
		file := beside(t, config, "one.yaml", cases(expect))
		o := tercel(t, "", "test", "-c", config, "--json", file)
		var got struct {
			OK    bool         `json:"ok"`
			Tests []testResult `json:"tests"`
		}
		if err := json.Unmarshal([]byte(o.out), &got); err != nil || len(got.Tests) != 1 || got.OK != (want == nil) || (o.code == boot.OK) != got.OK {
			t.Fatalf("exit %d: %v\n%s%s", o.code, err, o.out, o.err)
		}
		differ := got.Tests[0].Differences
		if len(differ) != len(want) {
			t.Errorf("%s: %q, want %q", expect, differ, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(differ[i], want[i]) {
				t.Errorf("%s: %q, want %q", expect, differ[i], want[i])
			}
		}
	}
}

// Tests are found beside the pipeline file, and requests beside the tests.
func TestTestReadsRequests(t *testing.T) {
	t.Parallel()
	config := writeTry(t, "http://127.0.0.1:9")
	beside(t, config, "paid.http", captured(t, config, `{"type":"order.paid","ids":["7"]}`, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	beside(t, config, "tercel.test.yaml", `
tests:
  - {name: in time, source: orders, request: paid.http, at: 2026-03-01T12:00:00Z, records: {/orders/7: null}, expect: {accepted: true, deleted: true, error: ""}}
  - {name: too late, source: orders, request: paid.http, at: 2026-03-02T12:00:00Z, expect: {accepted: false, status: 401, events: []}}
  - {name: not looked at, source: orders, request: paid.http, unsigned: true, expect: {accepted: true, error: "order 7: GET /orders/7: no answer is given"}}
  - {name: of another type, source: orders, body: '{"ids": ["7"]}', type: user.created, headers: {X-Delivery: d-9}, expect: {type: user.created, requests: [], destinations: {some: {error: "" }}}}
  - {name: no such source, source: nope, body: {}, expect: {accepted: true}}
`)
	o := tercel(t, "", "test", "-c", config)
	for _, want := range []string{
		"ok      in time\n", "ok      too late\n", "ok      not looked at\n", "ok      of another type\n",
		"FAILED  no such source (", `the pipeline file has no source "nope"; want one of batches, orders`, "\n5 tests, 1 failed\n",
	} {
		if !strings.Contains(o.out, want) || o.code != boot.Failed {
			t.Errorf("exit %d, no %q in\n%s%s", o.code, want, o.out, o.err)
		}
	}
}

// A test file is read as strictly as a pipeline file.
func TestTestFilesAreChecked(t *testing.T) {
	t.Parallel()
	config := writeTry(t, "http://127.0.0.1:9")
	file := beside(t, config, "bad.yaml", `tests:
  - name: x
    sauce: orders
    body: {a: 1, a: 2}
    request: x
    at: noon
    headers: {A: b}
    expect: 7
  - {name: y, source: orders, body: {n: .inf}, expect: {}}
`)
	o := tercel(t, "", "test", "-c", config, file)
	for _, want := range []string{
		":3:5: tests[0].sauce: unknown key; did you mean \"source\"?", "tests[0].source: missing", "key given twice",
		"tests[0]: found a mapping, want either request or body", ":6:9: tests[0].at", ":8:13: tests[0].expect: found 7, want a mapping",
		"no headers and no account beside a request", ":9:41: tests[1].body.n: found .inf, want a value that JSON has too",
	} {
		if !strings.Contains(o.err, want) || o.code != boot.Failed {
			t.Errorf("exit %d, no %q in\n%s%s", o.code, want, o.out, o.err)
		}
	}
	if n := strings.Count(o.err, "\n"); n != 8 {
		t.Errorf("%d faults, want 8 in\n%s", n, o.err)
	}
	if o := tercel(t, "", "test", "-c", config); o.code != boot.Failed || !strings.Contains(o.err, "tercel.test.yaml") {
		t.Errorf("without a test file: exit %d, %s", o.code, o.err)
	}
}
