package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
)

// blaming is a listener whose connections answer 400 where net/http answers 501 or
// 505 by itself: to a transfer coding that it doesn't know, and to another version of
// HTTP. They are the sender's doing, and a proxy in front that counts server errors
// would take a healthy ingress out for them.
type blaming struct {
	net.Listener
	log *slog.Logger
}

func (b blaming) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &blamingConn{Conn: c, log: b.log}, nil
}

type blamingConn struct {
	net.Conn
	log   *slog.Logger
	greet sync.Once
}

// NetConn is the connection below.
func (c *blamingConn) NetConn() net.Conn { return c.Conn }

// Read shakes hands first, where that is to be done: net/http does it only with a
// connection of which it sees that it is encrypted. It is bounded as the reading of
// a header is.
func (c *blamingConn) Read(p []byte) (int, error) {
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

// Answers of net/http to what it can't read begin so, and are written in one piece.
// None of ours has such a status.
var (
	unknownCoding  = []byte("HTTP/1.1 501 ")
	unknownVersion = []byte("HTTP/1.1 505 ")
)

const badRequest = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"

func (c *blamingConn) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(p, unknownCoding) && !bytes.HasPrefix(p, unknownVersion) {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write([]byte(badRequest)); err != nil {
		return 0, err
	}
	return len(p), nil
}
