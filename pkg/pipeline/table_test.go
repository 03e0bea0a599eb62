package pipeline_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

func decodePostgres(text string) (p pipeline.Postgres, err error) {
	err = config.Decode("postgres", []byte("dsn: env:DSN\n"+text), &p,
		config.WithLookupEnv(func(string) (string, bool) { return "postgres://u:planted@h/d", true }))
	return p, err
}

func TestPostgresIsChecked(t *testing.T) {
	t.Parallel()
	const whole = "name: t, columns: {a: record_id, b: id, c: record.c}"
	tests := map[string]struct {
		text string
		want []string // keys with faults
	}{
		"as it comes":           {"", nil},
		"a table of records":    {"table: {" + whole + ", key: [a], version: v, observed: o, deleted: d}", nil},
		"a table of events":     {"mode: insert\ntable: {" + whole + ", key: [b]}", nil},
		"another mode":          {"mode: append", []string{"mode"}},
		"nothing":               {"table: {}", []string{"table.name", "table.key", "table.columns", "table.version", "table.observed", "table.deleted"}},
		"a key from the record": {"table: {" + whole + ", key: [a, c], version: v, observed: o, deleted: d}", []string{"table.key"}},
		"a key for many":        {"table: {" + whole + ", key: [b], version: v, observed: o, deleted: d}", []string{"table.key"}},
		"many events a row":     {"mode: insert\ntable: {" + whole + ", key: [a]}", []string{"table.key"}},
		"a column twice":        {"table: {" + whole + ", key: [a], version: c, observed: o, deleted: d}", []string{"table.version"}},
		"an unknown source":     {"mode: insert\ntable: {name: t, key: [b], columns: {b: id, c: body.c, d: 'record.x[].y', e: ids}}", []string{"table.columns.c", "table.columns.d", "table.columns.e"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodePostgres(tt.text)
			faults, _ := err.(config.Faults)
			got := map[string]bool{}
			for _, f := range faults {
				got[f.Key] = true
			}
			if err != nil && faults == nil || len(got) != len(tt.want) {
				t.Errorf("Decode() = %v, want faults of %v", err, tt.want)
			}
			for _, key := range tt.want {
				if !got[key] {
					t.Errorf("Decode() = %v, want a fault of %s", err, key)
				}
			}
		})
	}
	if p, err := decodePostgres(""); err != nil || p.Mode != pipeline.Upsert || p.Migrate == nil || !*p.Migrate {
		t.Errorf("the defaults are %+v, %v", p, err)
	}
}

func TestColumnsFindTheirValues(t *testing.T) {
	t.Parallel()
	e := event.Event{ID: `e"1`, Source: "orders", RecordID: "7", ObservedAt: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)}
	body := []byte(`{"trigger":{"a":null},"record":{"n":1.00,"s":"x","l":[1,{"k":true}]},"related":{"c":{"name":"Ada"}}}`)
	for from, want := range map[string]string{
		"id": `"e\"1"`, "source": `"orders"`, "delivery_id": "", "observed_at": `"2026-03-01T12:00:00.000000005Z"`, "time": "",
		"record.n": "1.00", "record.s": `"x"`, "record.l.1": `{"k":true}`, "related.c.name": `"Ada"`, "trigger.a": "", "record.x.y": "",
	} {
		c, err := pipeline.ParseColumn(from)
		if err != nil {
			t.Errorf("ParseColumn(%q): %v", from, err)
		} else if got := string(c.Value(e, body)); got != want {
			t.Errorf("%s is %s, want %s", from, got, want)
		}
	}
}
