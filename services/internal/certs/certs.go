// Package certs serves TLS with the certificates of a pipeline file's tls
// section, which are read anew when their files change.
package certs

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
	"github.com/tercelhq/tercel/services/internal/watch"
)

// Certificates are what connections are encrypted with, the last good ones of
// their files. A nil one stands for plain text.
type Certificates struct {
	key       string
	protocols []string
	cfg       pipeline.TLS
	files     watch.Files
	now       atomic.Pointer[tls.Config]
}

// Read reads the files for the first time. It returns nil where there are none.
// Errors begin with key, the section's place in the pipeline file. Protocols are
// those that are offered (ALPN), the best first.
func Read(key string, cfg pipeline.TLS, protocols ...string) (*Certificates, error) {
	if cfg == (pipeline.TLS{}) {
		return nil, nil
	}
	c := &Certificates{key: key, protocols: protocols, cfg: cfg}
	for _, path := range []string{cfg.Cert, cfg.Key, cfg.ClientCA} {
		if path != "" {
			c.files = append(c.files, watch.File{Path: path})
		}
	}
	c.files.Changed() // before reading: what is written meanwhile is read again
	return c, c.read()
}

func (c *Certificates) read() error {
	pair, err := tls.LoadX509KeyPair(c.cfg.Cert, c.cfg.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", c.key, err)
	}
	next := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: c.protocols, Certificates: []tls.Certificate{pair}}
	if c.cfg.ClientCA != "" {
		pem, err := os.ReadFile(c.cfg.ClientCA)
		if err != nil {
			return fmt.Errorf("%s.client_ca: %w", c.key, err)
		}
		next.ClientAuth, next.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !next.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New(c.key + ".client_ca: no certificate in it")
		}
	}
	c.now.Store(next)
	return nil
}

// Keep reads the files again when they change, until ctx ends. A certificate
// and its key that don't fit each other yet are tried again each time, since
// the second may have been written while the first was read.
func (c *Certificates) Keep(ctx context.Context, log *slog.Logger) {
	if c == nil {
		return
	}
	unread := false
	watch.Every(ctx, watch.Interval, func() {
		changed := c.files.Changed()
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

// Listener wraps a listener for TLS, where it is set.
func (c *Certificates) Listener(ln net.Listener) net.Listener {
	if c == nil {
		return ln
	}
	return tls.NewListener(ln, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: c.protocols,
		// A new connection has the certificates of its moment. A session that was
		// begun under others isn't resumed: its client may not be trusted any more.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := c.now.Load().Clone()
			now.SessionTicketsDisabled = true
			return now, nil
		},
	})
}
