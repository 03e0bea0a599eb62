package pipeline_test

import (
	"strings"
	"testing"
)

func TestAgainst(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		against, destinations, want string // "" for a file without faults
	}{
		"the ledger":                  {"[ledger]", "w: {sqlite: {path: w.db}}", ""},
		"a file":                      {"[ledger, destination:w]", "w: {sqlite: {path: w.db}}", ""},
		"a database":                  {"[ledger, destination:w]", "w: {postgres: {dsn: env:STRIPE_WEBHOOK_SECRET}}", ""},
		"two":                         {"[ledger, destination:w, destination:v]", "w: {sqlite: {path: w.db}}, v: {sqlite: {path: v.db}}", ""},
		"one that takes the source":   {"[ledger, destination:w]", `w: {sqlite: {path: w.db}, subscribe: ["orders.>"]}`, ""},
		"one that takes the type":     {"[ledger, destination:w]", `w: {sqlite: {path: w.db}, subscribe: ["*.*.order.*"]}`, ""},
		"no ledger":                   {"[destination:w]", "w: {sqlite: {path: w.db}}", "ledger among them"},
		"one twice":                   {"[ledger, destination:w, destination:w]", "w: {sqlite: {path: w.db}}", "only once"},
		"nothing that exists":         {"[ledger, warehouse]", "w: {sqlite: {path: w.db}}", "destination:NAME"},
		"no such destination":         {"[ledger, destination:v]", "w: {sqlite: {path: w.db}}", "one under destinations"},
		"files":                       {"[ledger, destination:w]", "w: {files: {dir: d}}", "keeps a table of records"},
		"a database of events":        {"[ledger, destination:w]", "w: {postgres: {dsn: env:STRIPE_WEBHOOK_SECRET, mode: insert}}", "keeps a table of records"},
		"one that leaves records out": {"[ledger, destination:w]", `w: {sqlite: {path: w.db}, when: ".record.total > 1"}`, "without when"},
		"one that takes other types":  {"[ledger, destination:w]", `w: {sqlite: {path: w.db}, subscribe: ["orders.*.order.paid"]}`, "orders.*.order.reconciled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := decode(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:STRIPE_WEBHOOK_SECRET]
    event: {type: body.kind}
    api: {base: "https://orders.example.com"}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: /orders/{id}
        version: record.v
        reconcile: {list: /orders, against: ` + tt.against + `}
destinations: {` + tt.destinations + "}\n")
			switch {
			case tt.want != "":
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "reconcile.against") {
					t.Errorf("Decode() = %v, want a fault of against with %q", err, tt.want)
				}
			case err != nil:
				t.Errorf("Decode() = %v", err)
			case len(f.Compared()) != strings.Count(tt.against, "destination:"):
				t.Errorf("Compared() = %v", f.Compared())
			}
		})
	}
}
