package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tercelhq/tercel/services/internal/pgtest"
)

// database is a PostgreSQL server, which syncs every commit.
type database struct {
	server *pgtest.Server
	conn   *pgx.Conn
}

// withDatabase has do work with a database beside the stand.
func (s *stand) withDatabase(ctx context.Context, do func() error) error {
	server, err := pgtest.Launch()
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	s.pg = &database{server: server}
	defer func() { s.pg = nil }()
	if s.pg.conn, err = pgx.Connect(ctx, s.pg.dsn()); err != nil {
		return err
	}
	defer func() { _ = s.pg.conn.Close(context.WithoutCancel(ctx)) }()
	return do()
}

func (d *database) dsn() string { return d.server.URL(pgtest.Superuser, pgtest.Database, "") }

// empty removes all tables. It is not the next turn that pays for the last.
func (d *database) empty(ctx context.Context) error {
	if _, err := d.conn.Exec(ctx, "UNLISTEN *; DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		return err
	}
	_, err := d.conn.Exec(ctx, "CHECKPOINT")
	return err
}

// prove counts the rows of n events of as many records, and notes what those take
// on disk, with their indexes.
func (d *database) prove(ctx context.Context, f *figures, n int) error {
	var events, records int
	var bytes int64
	err := d.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM records),
		pg_total_relation_size('events') + pg_total_relation_size('records')`).Scan(&events, &records, &bytes)
	if err != nil {
		return err
	}
	if events != n || records != n {
		return fmt.Errorf("%d events and %d records are there, want %d", events, records, n)
	}
	f.Disk = float64(bytes) / float64(n)
	return nil
}

// listen has the database tell of every event when it is committed. The table is
// made by who writes to it.
func (d *database) listen(ctx context.Context) error {
	const tell = `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_notify('written', NEW.event_id); RETURN NEW; END$$;
		CREATE TRIGGER tell AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tell();
		LISTEN written`
	var last error
	err := until(ctx, func() (bool, error) {
		_, last = d.conn.Exec(ctx, tell)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("nobody has made a table of events: %w", errors.Join(last, err))
	}
	return nil
}

// receive returns how long each event took from when it was due until it was
// committed, until as many have come as were sent.
func (d *database) receive(ctx context.Context, sent <-chan int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fillTime)
	defer cancel()
	a := arrivals{ids: map[string]bool{}}
	for want := -1; want < 0 || len(a.took) < want; {
		select {
		case want = <-sent:
			continue
		default:
		}
		wait, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		n, err := d.conn.WaitForNotification(wait)
		stop()
		switch {
		case err == nil:
			a.add(n.Payload)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%d events have come of %d", len(a.took), want)
		case !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		}
		if a.wrong != nil {
			return nil, a.wrong
		}
	}
	return a.took, nil
}

// cpu is the processor time of the server's processes, those that have ended
// included.
func (d *database) cpu() time.Duration {
	const (
		clockTick = 10 * time.Millisecond // the unit of times in /proc, the same on all Linux machines
		parent    = 1                     // fields behind the name
		user      = 11
		system    = 12
		gone      = 14 // the last of those of children that have ended
	)
	first, ticks := strconv.Itoa(d.server.PID()), 0
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range all {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := strings.Cut(string(stat), " ")
		_, rest, _ = strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if len(fields) <= gone || pid != first && fields[parent] != first {
			continue
		}
		last := system
		if pid == first {
			last = gone
		}
		for _, f := range fields[user : last+1] {
			n, _ := strconv.Atoi(f)
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick
}
