package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/contract"
)

// checkContract holds every enriched event against what the contract of the
// pipeline file says of its headers and its body.
func checkContract(t *testing.T, js jetstream.JetStream, file string, secrets []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pipeline.Decode(file, text, config.WithLookupEnv(func(name string) (string, bool) {
		for _, s := range secrets {
			if value, ok := strings.CutPrefix(s, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}))
	if err != nil {
		t.Fatal(err)
	}
	document, err := contract.AsyncAPI(f)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("events.json", doc); err != nil {
		t.Fatal(err)
	}
	of := func(name string) *jsonschema.Schema {
		s, err := c.Compile("events.json#/components/schemas/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	attributes, order := of("attributes"), of("orders.order")
	count, gone := 0, 0
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamEnriched}) {
		if err != nil {
			t.Fatal(err)
		}
		headers := map[string]any{}
		for name, values := range m.Header {
			headers[name] = values[0]
		}
		if err := attributes.Validate(headers); err != nil {
			t.Errorf("headers of message %d: %v", m.Sequence, err)
		}
		body, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data))
		if err != nil {
			t.Fatal(err)
		}
		if err := order.Validate(body); err != nil {
			t.Errorf("body of message %d: %v", m.Sequence, err)
		}
		var b struct{ Deleted bool }
		if err := json.Unmarshal(m.Data, &b); err != nil {
			t.Fatal(err)
		}
		if count++; b.Deleted {
			gone++
		}
	}
	if t.Logf("%d enriched events match their contract, %d of them tombstones", count, gone); count == 0 {
		t.Error("no enriched events, want some")
	}
}
