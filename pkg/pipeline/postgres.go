package pipeline

import "github.com/tercelhq/tercel/pkg/config"

// Postgres is a PostgreSQL database with two tables: events, every event once,
// and records, the newest version of each record.
type Postgres struct {
	// DSN is the connection string, such as
	// postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full. What it
	// sets beyond that is the session's: search_path says where the tables are,
	// statement_timeout (milliseconds, defaults to 30000), lock_timeout (10000)
	// and connect_timeout (seconds, 10) bound waiting. Required.
	DSN config.Secret `yaml:"dsn"`
	// Mode is upsert for both tables or insert for events alone. Defaults to
	// upsert.
	Mode PostgresMode `yaml:"mode"`
	// Migrate makes the tables and brings them up to date, for which the user
	// must own them or be allowed to make them. Without it somebody else does;
	// what is missing is said. Defaults to true.
	Migrate *bool `yaml:"migrate"`
	// Table is a table of the user's own that is written to instead of the two.
	// Defaults to none.
	Table *Table `yaml:"table"`
}

// PostgresMode is which tables are kept.
type PostgresMode string

// The modes of a [Postgres] destination.
const (
	Upsert PostgresMode = "upsert"
	Insert PostgresMode = "insert"
)

// Values lists the modes, for configuration errors.
func (PostgresMode) Values() []string { return []string{string(Upsert), string(Insert)} }

// Validate reports a missing connection string and fills in the defaults.
func (p *Postgres) Validate(c *config.Check) {
	if p.DSN.IsZero() {
		c.Missing("dsn", "a reference to a connection string, such as env:DATABASE_URL")
	}
	if p.Mode == "" {
		p.Mode = Upsert
	}
	if p.Migrate == nil {
		yes := true
		p.Migrate = &yes
	}
	if p.Table != nil {
		p.Table.validate(c, p.Mode)
	}
}
