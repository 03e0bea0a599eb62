package sqlite

import "context"

// Pragma asks d's own connection for a setting.
func (d *DB) Pragma(ctx context.Context, name string) (value int, err error) {
	err = d.db.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
	return value, err
}
