package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// certificates are what connections are encrypted with, the last good ones of
// their files.
type certificates struct {
	cfg   pipeline.TLS
	files []watched
	now   atomic.Pointer[tls.Config]
}

// newCertificates reads the files for the first time. It returns nil where
// there are none.
func newCertificates(cfg pipeline.TLS) (*certificates, error) {
	if cfg == (pipeline.TLS{}) {
		return nil, nil
	}
	c := &certificates{cfg: cfg}
	for _, path := range []string{cfg.Cert, cfg.Key, cfg.ClientCA} {
		if path != "" {
			c.files = append(c.files, watched{path: path})
		}
	}
	c.changed() // before reading: what is written meanwhile is read again
	return c, c.read()
}

// changed reports whether one of the files did, and notes all of them.
func (c *certificates) changed() bool {
	some := false
	for i := range c.files {
		some = c.files[i].changed() || some
	}
	return some
}

func (c *certificates) read() error {
	pair, err := tls.LoadX509KeyPair(c.cfg.Cert, c.cfg.Key)
	if err != nil {
		return fmt.Errorf("ingress.tls: %w", err)
	}
	next := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{pair}}
	if c.cfg.ClientCA != "" {
		pem, err := os.ReadFile(c.cfg.ClientCA)
		if err != nil {
			return fmt.Errorf("ingress.tls.client_ca: %w", err)
		}
		next.ClientAuth, next.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !next.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New("ingress.tls.client_ca: no certificate in it")
		}
	}
	c.now.Store(next)
	return nil
}

// keep reads the files again when they change, until ctx ends. A certificate
// and its key that don't fit each other yet are tried again each time, since
// the second may have been written while the first was read.
func (c *certificates) keep(ctx context.Context, log *slog.Logger) {
	unread := false
	every(ctx, watchEvery, func() {
		changed := c.changed()
		if !changed && !unread {
			return
		}
		err := c.read()
		switch {
		case err == nil:
			log.LogAttrs(ctx, slog.LevelInfo, "certificates were read anew")
		case changed:
			log.LogAttrs(ctx, slog.LevelWarn, "certificates not read, the last good ones stay in use", slog.Any("err", err))
		}
		unread = err != nil
	})
}

// secured wraps the listener for TLS, where it is set.
func (s *Service) secured(ln net.Listener) net.Listener {
	if s.tls == nil {
		return ln
	}
	return tls.NewListener(ln, &tls.Config{
		MinVersion: tls.VersionTLS12,
		// A new connection has the certificates of its moment. A session that was
		// begun under others isn't resumed: its client may not be trusted any more.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.tls.now.Load().Clone()
			now.SessionTicketsDisabled = true
			return now, nil
		},
	})
}
