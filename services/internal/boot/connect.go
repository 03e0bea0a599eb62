package boot

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// awayEvery is the time between two lines that say that no server is there.
const awayEvery = 30 * time.Second

const (
	// pingEvery is the time between two pings, of which maxPings may be without an
	// answer. A server that lost its power, or whose network drops what it is sent,
	// never says that a connection has ended.
	pingEvery = 5 * time.Second
	maxPings  = 2
	// flushWithin bounds one write. The client is locked meanwhile: nobody is
	// told so much as whether there is a connection.
	flushWithin = 2 * time.Second
)

// Connect opens the connection that a program keeps for its whole life. It
// waits for a server that is away or refuses the credentials, says so in log,
// and tries for ever.
func Connect(cfg pipeline.NATS, name string, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	var told time.Time // the client calls its handlers one after the other
	connected := func(nc *nats.Conn) {
		told = time.Time{}
		log.Info("nats connected", slog.String("server", nc.ConnectedServerName()))
	}
	opts := []nats.Option{
		nats.Name("tercel-" + name), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(500 * time.Millisecond), nats.Timeout(5 * time.Second),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPings), nats.FlusherTimeout(flushWithin),
		// Credentials that are being changed may be refused for a while.
		nats.IgnoreAuthErrorAbort(),
		// Refused permissions come here only; requests just time out.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("nats error", slog.Any("err", err))
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats disconnected", slog.Any("err", err))
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if time.Since(told) > awayEvery {
				told = time.Now()
				log.Warn("nats not reached; trying on", slog.Any("err", err))
			}
		}),
		nats.ConnectHandler(connected), nats.ReconnectHandler(connected),
	}
	known, err := Identity(cfg, name)
	if err != nil {
		return nil, err
	}
	opts = append(opts, known...)
	nc, err := nats.Connect(cfg.URL, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", WithoutAddress(err))
	}
	return nc, nil
}

// Identity is how the program called name and the servers know each other, for
// whoever connects in another way than [Connect].
func Identity(cfg pipeline.NATS, name string) ([]nats.Option, error) {
	// An inbox of its own, so that no user can be let read what others are answered.
	opts := []nats.Option{nats.CustomInboxPrefix(cmp.Or(cfg.Inbox, "_INBOX."+name))}
	switch {
	case cfg.NKey != "":
		seed, err := nats.NkeyOptionFromSeed(cfg.NKey)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey: %w", err)
		}
		opts = append(opts, seed)
	case cfg.Credentials != "":
		opts = append(opts, nats.UserCredentials(cfg.Credentials))
	case cfg.User != "":
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password.Reveal()))
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return opts, nil
}

// WithoutAddress replaces an error about an address that is no URL by one that
// doesn't quote it: there may be a password or a token in it.
func WithoutAddress(err error) error {
	if errors.As(err, new(*url.Error)) {
		return errors.New("the address is no URL; want nats://HOST:PORT, several separated by commas," +
			" with %XX for special characters in a user, password or token")
	}
	return err
}
