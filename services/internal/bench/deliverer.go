package main

import (
	"context"
	"io"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/topology"
)

const (
	bareTables = `CREATE TABLE events(source text, account text, id text, body json, PRIMARY KEY (source, account, id));
		CREATE TABLE records(source text, account text, resource text, id text, version text, record json,
			PRIMARY KEY (source, account, resource, id))`
	bareEvent  = `INSERT INTO events VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	bareRecord = `INSERT INTO records VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, account, resource, id)
		DO UPDATE SET version = excluded.version, record = excluded.record`
)

// deliverBare is the yardstick of the sink: the least that writes two rows for
// each event. It runs until its standard input ends.
func deliverBare(ctx context.Context, url, dsn, listen string, write func(context.Context, *pgx.Conn, []jetstream.Msg) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
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
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	for ctx.Err() == nil {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		var msgs []jetstream.Msg
		for m := range batch.Messages() {
			msgs = append(msgs, m)
		}
		if err := write(ctx, conn, msgs); err != nil {
			return err
		}
	}
	return nil
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
