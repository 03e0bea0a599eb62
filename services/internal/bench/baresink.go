package main

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	bareTables = `CREATE TABLE events(source text, account text, event_id text, body json, PRIMARY KEY (source, account, event_id));
		CREATE TABLE records(source text, account text, resource text, id text, version text, record json,
			PRIMARY KEY (source, account, resource, id))`
	bareEvent  = `INSERT INTO events VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	bareRecord = `INSERT INTO records VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, account, resource, id)
		DO UPDATE SET version = excluded.version, record = excluded.record`
)

// deliverBare is the yardstick of the sink: the least that writes two rows for
// each event, until ctx ends.
func deliverBare(ctx context.Context, p part, write func(context.Context, *pgx.Conn, []jetstream.Msg) error) error {
	nc, err := nats.Connect(p.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, bareTables); err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, topology.StreamEnriched, topology.DeliverDurable("out"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", p.Listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	for ctx.Err() == nil {
		msgs, err := waitingNow(consumer)
		if err != nil {
			return err
		}
		if err := write(ctx, conn, msgs); err != nil {
			return err
		}
	}
	return nil
}

// waitingNow waits for a message, and returns it with up to 499 others that are
// there by then.
func waitingNow(consumer jetstream.Consumer) ([]jetstream.Msg, error) {
	var msgs []jetstream.Msg
	first, err := consumer.Fetch(1, jetstream.FetchMaxWait(time.Second))
	if err != nil {
		return nil, err
	}
	for m := range first.Messages() {
		msgs = append(msgs, m)
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	rest, err := consumer.FetchNoWait(499)
	if err != nil {
		return nil, err
	}
	for m := range rest.Messages() {
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// bareRows are the parameters of a message's two rows.
func bareRows(m jetstream.Msg) (ev, record []any, err error) {
	e, err := event.FromHeader(m.Headers())
	if err != nil {
		return nil, nil, err
	}
	body, err := event.DecodeBody(m.Data())
	if err != nil {
		return nil, nil, err
	}
	return []any{e.Source, e.Account, e.ID, m.Data()},
		[]any{e.Source, e.Account, e.Resource, e.RecordID, string(e.Version), []byte(body.Record)}, nil
}

func writeBatch(ctx context.Context, conn *pgx.Conn, msgs []jetstream.Msg) error {
	b := &pgx.Batch{}
	for _, m := range msgs {
		ev, record, err := bareRows(m)
		if err != nil {
			return err
		}
		b.Queue(bareEvent, ev...)
		b.Queue(bareRecord, record...)
	}
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return nil
}

func writeRows(ctx context.Context, conn *pgx.Conn, msgs []jetstream.Msg) error {
	for _, m := range msgs {
		ev, record, err := bareRows(m)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, bareEvent, ev...); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, bareRecord, record...); err != nil {
			return err
		}
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return nil
}
