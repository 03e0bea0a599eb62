// Package blame says whose fault it is when a request can't be read: net/http answers
// 501 or 505 by itself to a transfer coding that it doesn't know and to another
// version of HTTP, and a proxy in front that counts server errors would take a
// healthy server out for what a stranger sent.
package blame

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
)

// Listener returns a listener whose connections answer 400 instead. log takes
// connections of ln that are to be encrypted and aren't. net/http doesn't see through
// it to TLS, so it is nothing for a server that speaks HTTP/2 there.
func Listener(ln net.Listener, log *slog.Logger) net.Listener { return listener{ln, log} }

type listener struct {
	net.Listener
	log *slog.Logger
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, log: l.log}, nil
}

type conn struct {
	net.Conn
	log   *slog.Logger
	greet sync.Once
}

// NetConn is the connection below, as that of a [tls.Conn].
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read shakes hands first, where that is to be done: net/http does it only with a
// connection of which it sees that it is encrypted. It is bounded as the reading of
// a header is.
func (c *conn) Read(p []byte) (int, error) {
	c.greet.Do(func() {
		encrypted, ok := c.Conn.(*tls.Conn)
		if !ok {
			return
		}
		ctx := context.Background() // the read deadline ends it
		if err := encrypted.HandshakeContext(ctx); err != nil {
			c.log.LogAttrs(ctx, slog.LevelWarn, "no TLS connection", slog.String("from", c.RemoteAddr().String()), slog.Any("err", err))
		}
	})
	return c.Conn.Read(p)
}

// errorHeaders is what net/http's own answers to what it can't read have.
const errorHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// These are its answers (net/http, conn.serve), each written in one piece. They are
// compared whole: a handler may answer with such a status, and its answers have a date.
var (
	unknownCoding  = []byte("HTTP/1.1 501 Not Implemented" + errorHeaders + "Unsupported transfer encoding")
	unknownVersion = []byte("HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version" + errorHeaders +
		"505 HTTP Version Not Supported: unsupported protocol version")
)

const badRequest = "HTTP/1.1 400 Bad Request" + errorHeaders + "400 Bad Request"

func (c *conn) Write(p []byte) (int, error) {
	if !bytes.Equal(p, unknownCoding) && !bytes.Equal(p, unknownVersion) {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write([]byte(badRequest)); err != nil {
		return 0, err
	}
	return len(p), nil
}
