package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/pg"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// table is a table of the user's own with the statements that write to it.
type table struct {
	pipeline.Table
	upsert  bool
	columns []string        // of Table.Columns, in order
	json    map[string]bool // columns that take any JSON
	// live writes an event, gone a tombstone.
	live, gone string
}

// openTable compares the table with what the configuration says of it.
func openTable(ctx context.Context, conn *pgx.Conn, t pipeline.Table, upsert bool) (*table, error) {
	out := &table{Table: t, upsert: upsert, columns: slices.Sorted(maps.Keys(t.Columns)), json: map[string]bool{}}
	name := pgx.Identifier(strings.Split(t.Name, ".")).Sanitize()
	types, required, err := columnsOf(ctx, conn, name)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	var faults []error
	want := func(column, typ string) {
		if got, ok := types[column]; !ok || typ != "" && got != typ {
			faults = append(faults, fmt.Errorf("table %s: column %s is %q, want %s", t.Name, column, got, cmp.Or(typ, "one that is there")))
		}
	}
	for _, c := range out.columns {
		want(c, "")
		out.json[c] = types[c] == "json" || types[c] == "jsonb"
	}
	if upsert {
		want(t.Version, "text")
		want(t.Observed, "timestamp with time zone")
		want(t.Deleted, "timestamp with time zone")
	}
	for _, c := range required {
		if !slices.Contains(t.Key, c) {
			faults = append(faults, fmt.Errorf("table %s: column %s is NOT NULL without a default, and not every event has a value for it", t.Name, c))
		}
	}
	nullable, err := nullableOf(ctx, conn, name)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	for _, c := range t.Key {
		if slices.Contains(nullable, c) && !t.Columns[c].Always(upsert) {
			faults = append(faults, fmt.Errorf("table %s: column %s of the key is NULL where an event has no value for it, and then a repeat "+
				"makes another row: make it NOT NULL, or the index NULLS NOT DISTINCT, or leave it out", t.Name, c))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	out.live, out.gone = out.liveStatement(name, types), out.goneStatement(name, types)
	return out, out.check(ctx, conn, name)
}

// columnsOf returns the types of a table's columns, and those that must be
// given a value.
func columnsOf(ctx context.Context, conn *pgx.Conn, table string) (types map[string]string, required []string, err error) {
	rows, err := conn.Query(ctx, `SELECT attname, format_type(atttypid, -1), attnotnull AND NOT atthasdef AND attidentity = ''
		FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, table)
	if err != nil {
		return nil, nil, err
	}
	types = map[string]string{}
	var name, typ string
	var must bool
	_, err = pgx.ForEachRow(rows, []any{&name, &typ, &must}, func() error {
		types[name] = typ
		if must {
			required = append(required, name)
		}
		return nil
	})
	if err == nil && len(types) == 0 {
		err = errors.New("it is missing, or its schema is out of sight")
	}
	return types, required, err
}

// nullableOf returns the columns of a table that may be NULL, which no unique index
// takes for alike, unless one of its indexes says that it does.
func nullableOf(ctx context.Context, conn *pgx.Conn, table string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT attname FROM pg_catalog.pg_attribute
		WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND NOT attnotnull AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_index WHERE indrelid = attrelid AND indisunique
				AND pg_get_indexdef(indexrelid) LIKE '%NULLS NOT DISTINCT%')`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// check makes sure that the statements fit the table and may be run.
func (t *table) check(ctx context.Context, conn *pgx.Conn, name string) error {
	privileges := []string{"SELECT", "INSERT"}
	if t.upsert {
		privileges = append(privileges, "UPDATE")
	}
	for _, p := range privileges {
		var granted bool
		if err := conn.QueryRow(ctx, "SELECT has_table_privilege($1, $2)", name, p).Scan(&granted); err != nil {
			return err
		}
		if !granted {
			return fmt.Errorf("privileges are missing: %s ON %s", p, t.Name)
		}
	}
	for _, query := range t.statements() {
		// Planned, for only then the server looks for the key's unique index.
		if _, err := conn.Exec(ctx, "EXPLAIN "+query, make([]any, strings.Count(query, "::text::"))...); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

func (t *table) statements() []string {
	if t.upsert {
		return []string{t.live, t.gone}
	}
	return []string{t.live}
}

// insert begins a statement. Values are texts which the server reads as it
// reads any constant of the column's type.
func (t *table) insert(name string, columns []string, types map[string]string) string {
	quoted, values := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = quote(c)
		values[i] = fmt.Sprintf("$%d::text::%s", i+1, types[c])
	}
	keys := make([]string, len(t.Key))
	for i, k := range t.Key {
		keys[i] = quote(k)
	}
	return fmt.Sprintf("INSERT INTO %s AS r (%s) VALUES (%s) ON CONFLICT (%s) DO ", name,
		strings.Join(quoted, ", "), strings.Join(values, ", "), strings.Join(keys, ", "))
}

func quote(column string) string { return pgx.Identifier{column}.Sanitize() }

// liveStatement lets the newest version win (promise 7), as table records does
// it, but for the time of its observation, which here is to the microsecond.
func (t *table) liveStatement(name string, types map[string]string) string {
	if !t.upsert {
		return t.insert(name, t.columns, types) + "NOTHING"
	}
	columns := append(slices.Clone(t.columns), t.Version, t.Observed)
	sets := make([]string, len(columns))
	for i, c := range columns {
		sets[i] = fmt.Sprintf("%s = excluded.%[1]s", quote(c))
	}
	return t.insert(name, columns, types) + fmt.Sprintf(`UPDATE SET %s WHERE r.%[2]s IS NULL
		OR (excluded.%[2]s COLLATE "C", excluded.%[3]s) > (r.%[2]s COLLATE "C", r.%[3]s)`,
		strings.Join(sets, ", "), quote(t.Version), quote(t.Observed))
}

func (t *table) goneStatement(name string, types map[string]string) string {
	if !t.upsert {
		return ""
	}
	return t.insert(name, append(slices.Clone(t.Key), t.Deleted), types) + fmt.Sprintf(
		"UPDATE SET %[1]s = excluded.%[1]s WHERE r.%[1]s IS NULL OR excluded.%[1]s > r.%[1]s", quote(t.Deleted))
}

// queue adds an item's statement, and reports whether it has one: an event that
// speaks of no record has no row among records.
func (t *table) queue(b *pgx.Batch, it delivery.Item) bool {
	e := it.Event
	switch {
	case !t.upsert:
		b.Queue(t.live, t.values(t.columns, it)...)
	case e.Resource == "":
		return false
	case e.Deleted:
		b.Queue(t.gone, append(t.values(t.Key, it), delivery.Time(e.ObservedAt))...)
	default:
		b.Queue(t.live, append(t.values(t.columns, it), pg.Text(string(e.Version)), delivery.Time(e.ObservedAt))...)
	}
	return true
}

func (t *table) values(columns []string, it delivery.Item) []any {
	values := make([]any, len(columns))
	for i, c := range columns {
		v := t.Columns[c].Value(it.Event, it.Body)
		switch {
		case v == nil:
		case slices.Contains(t.Key, c): // attributes
			values[i] = pg.Text(unquoted(v))
		case t.json[c]:
			values[i] = string(document(v).([]byte))
		default:
			values[i] = strings.ReplaceAll(unquoted(v), "\x00", "\ufffd")
		}
	}
	return values
}

// unquoted is a string without its quotes, and any other value as it is.
func unquoted(v jsontext.Value) string {
	if v.Kind() != '"' {
		return string(v)
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return string(v) // the body was checked when it was decoded
	}
	return string(s)
}
