package pipeline_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// What the enricher looks for in a stored trigger must be there.
func TestRedactionLeavesIDsInWhatIsStored(t *testing.T) {
	t.Parallel()
	for redact, fault := range map[string]bool{
		"[body.order.id]":                                 false, // it is stored, and only not shown
		"{paths: [body.order], stored: true}":             true,
		"{paths: [body.order.id], stored: true}":          true,
		"{paths: [body.order.card], stored: true}":        false,
		"{paths: [record.id, body.orders], stored: true}": false,
	} {
		_, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:S]
    event: {type: body.kind}
    redact: `+redact+`
    api: {base: https://orders.example.com}
    resources: {order: {triggers: [order.*], id: body.order.id, get: "/orders/{id}", version: record.version}}
`), config.WithLookupEnv(func(string) (string, bool) { return "a secret of enough length", true }))
		if fault != (err != nil) || err != nil && !strings.Contains(err.Error(), "redact.paths") {
			t.Errorf("redact: %s: %v, want a fault: %t", redact, err, fault)
		}
	}
}
