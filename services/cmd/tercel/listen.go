package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/redact"
	"github.com/tercelhq/tercel/pkg/topology"
)

type listenCmd struct {
	pipelineFlags
	Source string `help:"Only events of this source." placeholder:"NAME"`
	Since  string `help:"Begin with events of this age, such as 1h or 7d, instead of new ones." placeholder:"AGE"`
	Count  int    `short:"n" help:"Stop after this many events. Defaults to going on."`
	JSON   bool   `name:"json" help:"Print every event whole, as one line of JSON after the tercel.event.v1.Event contract."`
}

// Help is shown by --help.
func (listenCmd) Help() string {
	return `Takes nothing from anybody: it reads beside the pipeline's own consumers.

Example:
  tercel listen --source github --since 1h --json`
}

// Run runs the command.
func (c listenCmd) Run(a *app) error {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy, InactiveThreshold: time.Minute}
	if c.Source != "" {
		cfg.FilterSubjects = []string{event.PrefixEnriched + "." + event.Escape(c.Source) + ".>"}
	}
	if c.Since != "" {
		age, err := config.ParseDuration(c.Since)
		if err != nil {
			return exitCode{2, "--since: " + err.Error()}
		}
		from := time.Now().Add(-age)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	rules, err := redact.Load(a.ctx, nc.js)
	if err != nil {
		return err
	}
	cons, err := nc.js.OrderedConsumer(a.ctx, topology.StreamEnriched, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", topology.StreamEnriched, err)
	}
	messages, err := cons.Messages()
	if err != nil {
		return fmt.Errorf("read %s: %w", topology.StreamEnriched, err)
	}
	defer context.AfterFunc(a.ctx, messages.Stop)()
	defer messages.Stop()
	if !c.JSON {
		fmt.Fprintln(a.err, "listening; stop with Ctrl-C")
	}
	for n := 0; c.Count == 0 || n < c.Count; n++ {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) && a.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", topology.StreamEnriched, err)
		}
		if source, ok := sourceIn(m.Subject()); ok {
			if _, known := rules[source]; !known { // it is new
				if rules, err = redact.Load(a.ctx, nc.js); err != nil {
					return err
				}
			}
		}
		if err := c.print(a, m, rules); err != nil {
			return err
		}
	}
	return nil
}

// sourceIn returns the source in an enriched event's subject.
func sourceIn(subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, event.PrefixEnriched+".")
	source, _, dotted := strings.Cut(rest, ".")
	return source, ok && dotted
}

func (c listenCmd) print(a *app, m jetstream.Msg, rules redact.Set) error {
	e, err := event.FromHeader(m.Headers())
	if err != nil {
		fmt.Fprintf(a.err, "%s: not an event of Tercel's: %v\n", m.Subject(), err)
		return nil
	}
	if c.JSON {
		p, err := e.Proto(rules.Of(e.Source).Show(m.Subject(), e, m.Data()).Payload)
		if err != nil {
			return err
		}
		line, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s\n", line)
		return err
	}
	what := e.Resource + " " + e.RecordID
	switch {
	case e.Deleted:
		what += " (gone)"
	case e.Resource == "":
		what = "-"
	}
	_, err = fmt.Fprintf(a.out, "%s  %s  %s  %s  %s  %s\n", stamp(e.ReceivedAt), printable(e.Source), printable(e.Type),
		printable(what), e.Origin, printable(e.ID))
	return err
}
