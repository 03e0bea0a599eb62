package signature

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // for KeySHA1 only
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"
)

// MinKeyBytes is how long a key has to be after decoding. 16 bytes are out of
// reach for guessing when random, and shorter than what providers hand out
// (20 bytes and more); a word that someone made up is refused.
const MinKeyBytes = 16

// minMinKeyBytes is the least that key.min_bytes may be.
const minMinKeyBytes = 8

// Key is a signing key, made by [ParseKey]. It prints as [redacted] in every
// way, also inside another value, and is safe for concurrent use. The zero Key
// verifies nothing and signs nothing.
type Key struct {
	// A pointer, because fmt doesn't follow pointers inside of unexported
	// fields: a struct that holds a Key can't print it by accident either.
	state *keyState
}

type keyState struct {
	algorithm Algorithm
	macs      sync.Pool // of *mac, keyed
	public    any       // the public key, where the algorithm has one
	// secret is a function, since reflection and spewing printers can't look
	// into one.
	secret func() []byte
}

// mac is one HMAC computation with the buffers it needs.
type mac struct {
	hash hash.Hash
	text []byte // what goes between bodies
	sum  []byte
}

// ParseKey decodes a secret after s.Key. A secret that is empty, has whitespace
// around it, doesn't decode, or gives fewer than [MinKeyBytes] or s.Key.MinBytes
// is an error; no error repeats any part of the secret. Only s.Algorithm and
// s.Key matter. For an algorithm with public keys, the secret is the sender's
// public key; for rsa, whose keys are fetched, it is what the sender knows the
// receiver by.
func ParseKey(s Scheme, secret string) (Key, error) {
	if !slices.Contains(s.Algorithm.Values(), string(s.Algorithm)) || s.Algorithm == None {
		return Key{}, fmt.Errorf("signing secret: unknown scheme %q", s.Algorithm)
	}
	// Mostly the newline of a file. Trimmed silently, it would hide that the
	// same secret fails elsewhere.
	if strings.TrimSpace(secret) != secret {
		return Key{}, errors.New("signing secret: whitespace at its begin or end, want none")
	}
	state := &keyState{algorithm: s.Algorithm}
	if s.Algorithm.public() || s.Algorithm == JWTES256 {
		var err error
		state.public, err = parsePublic(s, secret)
		if err != nil {
			return Key{}, err
		}
		return Key{state}, nil
	}
	key, err := s.Key.decode(secret)
	if err != nil {
		return Key{}, err
	}
	least := s.Key.MinBytes
	if least == 0 {
		least = MinKeyBytes
	}
	if len(key) < least {
		return Key{}, fmt.Errorf("signing secret: %d bytes, want at least %d", len(key), least)
	}
	if s.Algorithm == Basic && !strings.Contains(secret, ":") {
		return Key{}, errors.New("signing secret: no colon, want user:password")
	}
	state.secret = func() []byte { return key }
	newHash := s.Algorithm.hash()
	state.macs.New = func() any {
		if s.Algorithm == SHA256 {
			return &mac{hash: &prefixed{sha256.New(), key}}
		}
		return &mac{hash: hmac.New(newHash, key)}
	}
	return Key{state}, nil
}

// prefixed is a hash that begins with a secret.
type prefixed struct {
	hash.Hash
	secret []byte
}

// Reset begins anew, with the secret.
func (p *prefixed) Reset() {
	p.Hash.Reset()
	_, _ = p.Hash.Write(p.secret) // a hash takes all
}

// decode leaves the decoders' own errors out: they quote their input.
func (f KeyFormat) decode(secret string) ([]byte, error) {
	secret = strings.TrimPrefix(secret, f.StripPrefix)
	switch f.Encoding {
	case "", KeyText:
		return []byte(secret), nil
	case KeyBase64:
		key, err := base64.StdEncoding.Strict().DecodeString(secret)
		if err != nil {
			return nil, errors.New("signing secret: not padded standard base64")
		}
		return key, nil
	case KeyHex:
		key, err := hex.DecodeString(secret)
		if err != nil {
			return nil, errors.New("signing secret: not hex")
		}
		return key, nil
	case KeySHA1:
		if len(secret) < MinKeyBytes { // the digest hides how short it is
			return nil, fmt.Errorf("signing secret: %d bytes, want at least %d", len(secret), MinKeyBytes)
		}
		sum := sha1.Sum([]byte(secret)) //nolint:gosec // see KeySHA1: a key derivation that the sender prescribes
		return sum[:], nil
	}
	return nil, fmt.Errorf("signing secret: unknown key.encoding %q", f.Encoding)
}

// Format writes [redacted], whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns [redacted].
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[redacted]"

// fits tells whether k can be used with algorithm a.
func (k Key) fits(a Algorithm) bool { return k.state != nil && k.state.algorithm == a }

// sum returns the signature of the string that segments make of m, in a mac
// that the caller hands back with [Key.release].
func (k Key) sum(segments []segment, m *message) *mac {
	c := k.state.macs.Get().(*mac) //nolint:forcetypeassert // the pool's New makes nothing else
	c.hash.Reset()
	c.text = c.text[:0]
	for i := range segments {
		if segments[i].kind == body {
			c.hash.Write(c.text)
			c.text = c.text[:0]
			c.hash.Write(m.request.Body)
			continue
		}
		c.text = m.appendSegment(c.text, &segments[i])
	}
	c.hash.Write(c.text)
	c.sum = c.hash.Sum(c.sum[:0])
	return c
}

func (k Key) release(c *mac) { k.state.macs.Put(c) }
