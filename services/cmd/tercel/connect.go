package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/embednats"
)

// pipelineFlags find the NATS server of a pipeline, for what operators do with
// secrets that no API takes: the accounts in a bucket.
type pipelineFlags struct {
	NATS  string `name:"nats" help:"Address of the pipeline's NATS servers. Defaults to the server of the tercel up that runs on --data, else the file's nats.url." env:"TERCEL_NATS" placeholder:"URL"`
	Creds string `help:"A .creds file for the server, instead of the user that the file's nats section names." env:"TERCEL_NATS_CREDS" type:"existingfile"`
	Data  string `help:"Data folder of the tercel up to look into." default:"tercel-data" env:"TERCEL_DATA"`
}

// connection is an open way into a running pipeline. Close it.
type connection struct {
	*nats.Conn
	js jetstream.JetStream
}

// connect opens the connection as the file's nats section says, where flags don't say
// otherwise; the error tells where it looked and what to do.
func (p pipelineFlags) connect(section pipeline.NATS) (*connection, error) {
	cfg, hint := p.over(section)
	known, err := boot.Identity(cfg, "cli")
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(cfg.URL, append(known, nats.Name("tercel-cli"), nats.Timeout(5*time.Second))...)
	if err != nil {
		if errors.Is(err, nats.ErrAuthorization) {
			hint = " (--data FOLDER of the running tercel up has its token; else the file's nats section names the user," +
				" or --creds does, or --nats with a user and password or a token)"
		}
		return nil, fmt.Errorf("connect to %s: %w%s", withoutToken(cfg.URL), boot.WithoutAddress(err), hint)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc, js}, nil
}

// over is the section where flags, or a tercel up that runs, leave it as it is.
func (p pipelineFlags) over(section pipeline.NATS) (cfg pipeline.NATS, hint string) {
	cfg = section
	if cfg.URL = p.NATS; cfg.URL == "" {
		found, ok := embednats.FindURL(p.Data)
		if ok { // on a server of its own, of which the file says nothing
			return pipeline.NATS{URL: found, Credentials: p.Creds}, ""
		}
		cfg.URL = section.URL
		hint = fmt.Sprintf(" (no tercel up runs on %s; start one, or name the server with --nats or the file's nats.url, or the folder with --data)", p.Data)
	}
	if p.Creds != "" || strings.Contains(p.NATS, "@") { // another user than the file's
		cfg.NKey, cfg.User, cfg.Password, cfg.Credentials = "", "", config.Secret{}, p.Creds
	}
	return cfg, hint
}

// withoutToken keeps the credentials of addresses out of messages.
func withoutToken(urls string) string {
	var shown []string
	for address := range strings.SplitSeq(urls, ",") {
		if address = strings.TrimSpace(address); !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		if u, err := url.Parse(address); err == nil {
			shown = append(shown, u.Scheme+"://"+u.Host)
		} else {
			shown = append(shown, "[not a URL]")
		}
	}
	return strings.Join(shown, ",")
}
