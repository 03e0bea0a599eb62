package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// settings are what the command line says.
type settings struct {
	url, key, ca string // of Tercel's servers
	teamURL      string
	team         string
	made         string // the consumer, if it was made for the team
	source       string
}

func parse() (s settings) {
	flag.StringVar(&s.url, "nats", nats.DefaultURL, "where Tercel's streams are")
	flag.StringVar(&s.key, "nkey", "", "file with the team's seed for them")
	flag.StringVar(&s.ca, "ca", "", "file with the authority that their certificates are from")
	flag.StringVar(&s.teamURL, "team-nats", "", "where this team keeps what is its own (default: the same)")
	flag.StringVar(&s.team, "team", "billing", "name of the team's consumer, stream and buckets")
	flag.StringVar(&s.made, "consumer", "", "the consumer that was made for the team (default: it makes one)")
	flag.StringVar(&s.source, "source", "orders", "the source whose events are wanted, if it makes its consumer")
	flag.Parse()
	return s
}

// connect connects to Tercel's servers, and to the team's.
func (s settings) connect() (events, own *nats.Conn, err error) {
	options := []nats.Option{nats.Name(s.team), nats.MaxReconnects(-1)}
	theirs := options
	if s.key != "" {
		seed, err := nats.NkeyOptionFromSeed(s.key)
		if err != nil {
			return nil, nil, fmt.Errorf("nkey: %w", err)
		}
		theirs = append(theirs, seed)
	}
	if s.ca != "" {
		theirs = append(theirs, nats.RootCAs(s.ca))
	}
	if events, err = nats.Connect(s.url, theirs...); err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	if s.teamURL == "" {
		return events, events, nil
	}
	if own, err = nats.Connect(s.teamURL, options...); err != nil {
		events.Close()
		return nil, nil, fmt.Errorf("connect to the team's server: %w", err)
	}
	return events, own, nil
}

// consumer is the team's: made for it by "tercel setup", which is all that it
// reaches in the JetStream domain tercel, or else by itself.
func (s settings) consumer(ctx context.Context, nc *nats.Conn) (jetstream.Consumer, error) {
	if s.made != "" {
		js, err := jetstream.NewWithDomain(nc, "tercel")
		if err != nil {
			return nil, err
		}
		return js.Consumer(ctx, "TERCEL_ENRICHED", s.made)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return js.CreateOrUpdateConsumer(ctx, "TERCEL_ENRICHED", jetstream.ConsumerConfig{
		Durable:       s.team,
		FilterSubject: "tercel.enriched." + s.source + ".>",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxAckPending: 100,
	})
}
