package egress

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/tercelhq/tercel/pkg/fault"
)

// failure is an error of a connection in words of our own.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// Failure says what went wrong before an answer was complete, in words that
// hold nothing of the request or the answer, and whether a quick repeat may
// mend it. An address that is not allowed is permanent; ctx is the request's.
func Failure(ctx context.Context, err error) (told error, again bool) {
	var (
		refused *RefusedError
		dns     *net.DNSError
		op      *net.OpError
		cert    *tls.CertificateVerificationError
		timeout net.Error
	)
	switch {
	case errors.As(err, &refused):
		return fault.Permanent(refused), false
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return &failure{"no complete answer in time", err}, false
	case errors.As(err, &dns):
		return &failure{dns.Error(), err}, true
	case errors.As(err, &op):
		return &failure{op.Error(), err}, true
	case errors.As(err, &cert):
		return &failure{"certificate not accepted", err}, false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{"connection closed before the answer was complete", err}, true
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return &failure{"broken compression", err}, false
	default:
		return &failure{"broken HTTP exchange", err}, true
	}
}
