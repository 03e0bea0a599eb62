// Package pg is how Tercel speaks to PostgreSQL: sessions that are bounded,
// errors without secrets, and texts of which PostgreSQL can't hold all.
package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds connecting, where the connection string doesn't.
const connectTimeout = 10 * time.Second

// bound bounds a session, in milliseconds, where neither the connection string
// nor the database does. As parameters of the connection they would win over those
// in the string's options, and poolers would refuse them.
const bound = `SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '10000' ELSE '30000' END, false)
FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout') AND setting = '0' AND source <> 'client'`

// errDSN says nothing of what was found: it may hold a password.
var errDSN = errors.New("dsn: want a URL such as postgres://USER:PASSWORD@HOST:PORT/DATABASE, or settings such as host=HOST dbname=DATABASE")

// Parse reads a connection string, which is a secret that no error repeats.
// The server shows sessions under the name "tercel" with name; waiting in them
// is bounded where the string itself sets no connect_timeout (10s), and neither it
// nor the database a statement_timeout (30s) or lock_timeout (10s).
func Parse(dsn, name string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTimeout
	}
	if params := c.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "tercel " + name
	}
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, c.ConnConfig.ConnectTimeout)
		defer cancel()
		_, err := conn.Exec(ctx, bound)
		return err
	}
	return c, nil
}

// Target spells where c leads to in the one way by which two are compared. It
// has no secrets.
func Target(c *pgxpool.Config) string {
	t := fmt.Sprintf("postgres %s:%d/%s", c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.Database)
	if path := c.ConnConfig.RuntimeParams["search_path"]; path != "" {
		t += " " + path
	}
	return t
}

var (
	escape   = strings.NewReplacer("\x00", "␀0", "␀", "␀␀")
	unescape = strings.NewReplacer("␀0", "\x00", "␀␀", "␀")
)

// Text writes the character NUL, which PostgreSQL's texts can't hold, in a way
// that keeps different texts different. Nearly all texts stay as they are.
func Text(s string) string { return escape.Replace(s) }

// FromText is the inverse of [Text].
func FromText(s string) string { return unescape.Replace(s) }
