package pipeline_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

const tableFile = `
sources:
  shop:
    verify: {scheme: none, insecure: true}
    event: {id: body.id, type: body.kind}
    api: {base: "https://api.example.com"}
    %s
    resources:
      order: {triggers: [order.*], id: body.id, get: "/orders/{id}", version: record.v}
      refund: {triggers: [refund.created], id: body.id, get: "/refunds/{id}", version: record.v}
  crm:
    verify: {scheme: none, insecure: true}
    event: {id: body.id, type: body.kind}
    api: {base: "https://crm.example.com"}
    resources:
      order: {triggers: [order.*], id: body.id, get: "/orders/{id}", version: record.v}
      contact: {triggers: [contact.*], id: body.id, get: "/contacts/{id}", version: record.v}
destinations:
  own:
    postgres:
      dsn: env:DSN
      mode: %s
      table: {name: t, key: [%s], columns: {id: id, record: record_id, source: source, account: account, resource: resource}%s}
    subscribe: [%s]
`

// Promise 7: rows of one table are taken for each other's only if they are the same
// record's, or the same event's.
func TestKeysTellApartWhatComesToATable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		accounts, mode, key, subscribe string
		want                           string // what is missing, or ""
	}{
		"one resource":                         {"", "upsert", "record", `"shop.*.order.>"`, ""},
		"one resource, by its name":            {"", "upsert", "record", `"shop.*.refund.created", "shop.*.refund.reconciled"`, ""},
		"two resources":                        {"", "upsert", "record", `"shop.>"`, "resource"},
		"two resources and a column for them":  {"", "upsert", "record, resource", `"shop.>"`, ""},
		"two sources":                          {"", "upsert", "record, resource", `">"`, "source"},
		"two sources and a column for them":    {"", "upsert", "record, resource, source", `">"`, ""},
		"two accounts":                         {"[north, south]", "upsert", "record", `"shop.*.order.>"`, "account"},
		"two accounts and a column for them":   {"[north, south]", "upsert", "record, account", `"shop.*.order.>"`, ""},
		"one of two accounts":                  {"[north, south]", "upsert", "record", `"shop.north.order.>"`, ""},
		"a source each with one resource":      {"", "upsert", "record, source", `"shop.*.refund.>", "crm.*.contact.>"`, ""},
		"resources that tell sources apart":    {"", "upsert", "record, resource", `"shop.*.refund.>", "crm.*.contact.>"`, ""},
		"accounts of two sources":              {"[north, south]", "upsert", "record, source", `"shop.north.order.>", "crm.*.order.>"`, ""},
		"any account":                          {"{dir: accounts}", "upsert", "record", `"shop.*.order.>"`, "account"},
		"two accounts of any":                  {"{dir: accounts}", "upsert", "record", `"shop.north.order.>", "shop.south.order.>"`, "account"},
		"one account of any":                   {"{dir: accounts}", "upsert", "record", `"shop.north.order.>"`, ""},
		"events of two resources":              {"", "insert", "id", `"shop.>"`, ""},
		"events of two sources":                {"", "insert", "id", `">"`, "source"},
		"events of two accounts":               {"[north, south]", "insert", "id", `"shop.>"`, "account"},
		"events of two sources that tell them": {"", "insert", "id, source", `">"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			columns, accounts := "", ""
			if tt.accounts != "" {
				accounts = "accounts: " + tt.accounts
			}
			if tt.mode == "upsert" {
				columns = ", version: v, observed: o, deleted: d"
			}
			_, err := pipeline.Decode("tercel.yaml", fmt.Appendf(nil, tableFile, accounts, tt.mode, tt.key, columns, tt.subscribe),
				config.WithLookupEnv(func(string) (string, bool) { return "postgres://u:p@h/d", true }))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Decode() = %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), "destinations.own.postgres.table.key: ") ||
				!strings.Contains(err.Error(), "a column for "+tt.want+" among them")):
				t.Errorf("Decode() = %v, want a column for %s", err, tt.want)
			}
		})
	}
}
