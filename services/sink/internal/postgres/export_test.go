package postgres

import (
	"context"
	"strings"
)

// Settings are settings of the destination's sessions.
func (d *DB) Settings(ctx context.Context, names ...string) (string, error) {
	var all []string
	for _, name := range names {
		var value string
		if err := d.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return "", err
		}
		all = append(all, name+"="+value)
	}
	return strings.Join(all, " "), nil
}
