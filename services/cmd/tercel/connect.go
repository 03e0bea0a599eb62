package main

import (
	"crypto/x509"
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

// natsFlags change what the pipeline file's nats section says.
type natsFlags struct {
	NATS  string `name:"nats" help:"Address of the NATS servers, instead of the file's nats.url." env:"TERCEL_NATS" placeholder:"URL"`
	Creds string `help:"A .creds file for the servers, instead of the user in the file's nats section." env:"TERCEL_NATS_CREDS" type:"existingfile" placeholder:"FILE"`
}

// over returns the section as the flags change it. An address with a user or a
// token in it says who connects as well: a seed that its servers don't know
// would have them refuse it.
func (f natsFlags) over(cfg pipeline.NATS) pipeline.NATS {
	if f.NATS != "" {
		cfg.URL = f.NATS
	}
	if f.Creds != "" || strings.Contains(f.NATS, "@") {
		cfg.NKey, cfg.User, cfg.Password, cfg.Credentials = "", "", config.Secret{}, f.Creds
	}
	return cfg
}

// pipelineFlags find the NATS servers of a pipeline, for what operators do with
// secrets that no API takes: the accounts in a bucket.
type pipelineFlags struct {
	natsFlags
	Data string `help:"Data folder of a tercel up. While one runs on it, its server is meant, not those of the file; --nats goes before both." default:"tercel-data" env:"TERCEL_DATA"`
}

// connection is an open way into a running pipeline. Close it.
type connection struct {
	*nats.Conn
	js jetstream.JetStream
}

// connect opens the connection to the servers of the pipeline file, whose nats
// section is cfg; the error says where it looked and what to do.
func (p pipelineFlags) connect(file string, cfg pipeline.NATS) (*connection, error) {
	up := false
	if cfg = p.over(cfg); p.NATS == "" {
		var found string
		if found, up = embednats.FindURL(p.Data); up {
			cfg = pipeline.NATS{URL: found, Credentials: p.Creds} // the address has its token
		}
	}
	opts, err := boot.Identity(cfg, "cli")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	nc, err := nats.Connect(cfg.URL, append(opts, nats.Name("tercel-cli"), nats.Timeout(5*time.Second))...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w%s", withoutToken(cfg.URL), boot.WithoutAddress(err), p.hint(err, file, cfg, up))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &connection{nc, js}, nil
}

// hint says what to do about an error of connecting as cfg says.
func (p pipelineFlags) hint(err error, file string, cfg pipeline.NATS, up bool) string {
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Sprintf(" (name the file with the servers' authority as nats.ca in %s)", file)
	case errors.Is(err, nats.ErrAuthorization) && cfg.NKey != "":
		return fmt.Sprintf(" (they don't know the user whose seed is %s, nats.nkey in %s)", cfg.NKey, file)
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Sprintf(" (say who connects: nkey, credentials, or user and password in the nats section of %s,"+
			" or --creds, or --nats with a user and password or a token; --data FOLDER of a running tercel up has its token)", file)
	case !up && p.NATS == "":
		return fmt.Sprintf(" (no tercel up runs on %s; start one, or name the servers as nats.url in %s or with --nats, or the folder with --data)", p.Data, file)
	}
	return ""
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
