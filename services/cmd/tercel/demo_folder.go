package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// demoSource and demoResource are the names in the demo's pipeline file.
const (
	demoSource   = "orders"
	demoResource = "order"
)

// demoConfig is the demo's pipeline file. The times are short, so that what is
// dropped is found within seconds rather than within the hour.
const demoConfig = `# The pipeline of "tercel demo": a source, its one resource, and a database.
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [$SECRET]
    event: {id: header.X-Delivery, type: body.kind, time: body.at}
    api: {base: $BASE, token: $TOKEN, allow_private: true}
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
          limit: {param: limit, size: 200}
          every: 2s
          settle: 1s
          overlap: 2s
destinations:
  database: {sqlite: {path: $DATABASE}}
ingress: {listen: "127.0.0.1:0", drain_grace: 0s}
console: {listen: "127.0.0.1:0"}
enricher: {max_attempts: 8, retry_min: 100ms, retry_max: 1s}
sink: {retry_min: 100ms, retry_max: 1s}
reconciler: {repair_rate: 2000, audit_every: 2s, audit_settle: 30s}
telemetry: {listen: "127.0.0.1:0"}
`

// demoFolder holds everything that a demo writes.
type demoFolder struct{ dir string }

func (f demoFolder) config() string   { return filepath.Join(f.dir, "tercel.yaml") }
func (f demoFolder) database() string { return filepath.Join(f.dir, "orders.db") }
func (f demoFolder) log() string      { return filepath.Join(f.dir, "tercel.log") }

// newDemoFolder makes the folder; "" stands for a temporary one.
func newDemoFolder(dir string) (f demoFolder, err error) {
	if dir == "" {
		f.dir, err = os.MkdirTemp("", "tercel-demo-")
		return f, err
	}
	if f.dir, err = filepath.Abs(dir); err != nil {
		return demoFolder{}, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return demoFolder{}, fmt.Errorf("data folder: %w", err)
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return demoFolder{}, fmt.Errorf("data folder: %w", err)
	}
	if len(entries) > 0 {
		return demoFolder{}, fmt.Errorf("data folder %s: not empty, but the demo counts from nothing; name a new one", dir)
	}
	return f, nil
}

// write writes secrets and the pipeline file for an API at base, and reads the
// file as every service does.
func (f demoFolder) write(base string) (*pipeline.File, error) {
	values := []string{"$BASE", fmt.Sprintf("%q", base), "$DATABASE", fmt.Sprintf("%q", f.database())}
	for placeholder, name := range map[string]string{"$SECRET": "webhook-secret", "$TOKEN": "api-token"} {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte(rand.Text()+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("write secret: %w", err)
		}
		values = append(values, placeholder, fmt.Sprintf("%q", "file:"+path))
	}
	text := strings.NewReplacer(values...).Replace(demoConfig)
	if err := os.WriteFile(f.config(), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write pipeline file: %w", err)
	}
	return pipeline.Load(f.config())
}
