package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// The processes of a killed server hold what the next one needs until they have
// noticed, and write to its log.
func TestAKilledServerStartsAgainAtOnce(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	for range 3 {
		for range 30 {
			c, err := pgx.Connect(t.Context(), s.URL(pgtest.Superuser, pgtest.Database, ""))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			for range 20 { // each leaves lines in the log
				if _, err := c.Exec(t.Context(), "no statement"); err == nil {
					t.Fatal("no error of what is no statement")
				}
			}
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
