package provider

import (
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
)

// Encoding is a content encoding of requests.
type Encoding string

// Gzip is the one encoding that senders of webhooks use.
const Gzip Encoding = "gzip"

// Values lists the encodings, for configuration errors.
func (Encoding) Values() []string { return []string{string(Gzip)} }

// SignedBytes says which bytes of an encoded body are signed.
type SignedBytes string

// The bytes that can be signed.
const (
	SignedReceived SignedBytes = "received"
	SignedDecoded  SignedBytes = "decoded"
)

// Values lists what can be said, for configuration errors.
func (SignedBytes) Values() []string { return []string{string(SignedReceived), string(SignedDecoded)} }

func (s *Source) validateEncodings(c *config.Check) {
	inBody := strings.HasPrefix(s.Verify.Signature, "body.") || strings.HasPrefix(s.Verify.Timestamp, "body.") || s.Verify.PartialBody
	switch decoded := s.Request.Signed == SignedDecoded; {
	case s.Request.Signed != "" && len(s.Request.Encodings) == 0:
		c.Fault("request.signed", "", "request.encodings beside it, or nothing here")
	case len(s.Request.Encodings) > 0 && !decoded && inBody:
		c.Fault("request.encodings", "", "signed: decoded beside it, since verify reads the body")
	}
}
