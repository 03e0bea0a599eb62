// Package blame says whose fault it is when a request can't be read: net/http answers
// 501 or 505 by itself to a transfer coding that it doesn't know and to another
// version of HTTP, and a proxy in front that counts server errors would take a
// healthy server out for what a stranger sent. What it says of strangers takes up a few
// lines of the log and not as many as they want.
package blame

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
)

// Listener returns a listener whose connections answer 400 instead. net/http doesn't
// see through it to TLS, so it is nothing for a server that speaks HTTP/2 there. What
// net/http does with connections that are to be encrypted and aren't is done here: errs
// takes them, and plain HTTP is answered.
func Listener(ln net.Listener, errs *log.Logger) net.Listener { return listener{ln, errs} }

type listener struct {
	net.Listener
	errs *log.Logger
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{c, l.errs}, nil
}

type conn struct {
	net.Conn
	errs *log.Logger
}

// NetConn is the connection below, as that of a [tls.Conn].
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite tells the other end that nothing more comes, as net/http does before it
// closes a connection whose client still writes.
func (c *conn) CloseWrite() error {
	err := closeWrite(c.Conn)
	if encrypted, ok := c.Conn.(*tls.Conn); ok { // it only says so, and leaves the connection below as it is
		err = errors.Join(err, closeWrite(encrypted.NetConn()))
	}
	return err
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.failed(err)
	}
	return n, err
}

// plainHTTP is net/http's answer to a request that should have been encrypted.
const plainHTTP = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// failed tells of a connection whose first read, which shakes hands, went wrong.
func (c *conn) failed(err error) {
	encrypted, ok := c.Conn.(*tls.Conn)
	if !ok || encrypted.ConnectionState().HandshakeComplete || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return // whoever has said nothing and gone, or was sent away, did no wrong
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil {
		_, _ = io.WriteString(plain.Conn, plainHTTP) // who has gone has gone
	}
	c.errs.Printf("http: TLS handshake error from %s: %v", c.RemoteAddr(), err)
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
