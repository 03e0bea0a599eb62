// Package seal keeps secrets unreadable where they must be stored: in
// JetStream's buckets, where whoever reads the disk, a backup or the bucket
// itself would read them too.
//
// A [Box] seals with AES-256-GCM under a key that is derived by HKDF-SHA-256
// from a secret of the pipeline file (seal_keys, references such as
// env:TERCEL_SEAL_KEY). Each sealed value is bound to a label, such as its
// bucket and key, and opens under no other: values can't be swapped.
//
// Keys are rotated as signing secrets are: the first one seals, all of them
// open. Whoever keeps sealed values seals them again when they change.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tercelhq/tercel/pkg/config"
)

// MinKeyBytes is how long the text of a key must be. It should be random, as
// from "openssl rand -base64 32": deriving doesn't make a weak one strong.
const MinKeyBytes = 32

// ErrSealed is returned by [Box.Open] for a value that none of the keys opens
// under its label: it was sealed with another key or for another place, was
// changed, or was never sealed.
var ErrSealed = errors.New("sealed with another key, for another place, or changed")

// Box seals and opens values. It is safe for concurrent use. A nil Box has no
// keys: it seals nothing and opens nothing.
type Box struct {
	keys []cipher.AEAD
}

// New returns a box that seals with the first key and opens with any. It
// returns nil without keys. The error quotes no key.
func New(keys []config.Secret) (*Box, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	b := &Box{}
	for i, key := range keys {
		if len(key.Reveal()) < MinKeyBytes {
			return nil, fmt.Errorf("seal key %d: want at least %d characters", i, MinKeyBytes)
		}
		derived, err := hkdf.Key(sha256.New, []byte(key.Reveal()), nil, "tercel seal 1", 32)
		if err != nil {
			return nil, fmt.Errorf("seal key %d: %w", i, err)
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return nil, fmt.Errorf("seal key %d: %w", i, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("seal key %d: %w", i, err)
		}
		b.keys = append(b.keys, aead)
	}
	return b, nil
}

// format begins each sealed value, so that a later one can be told apart.
const format = 1

// ErrNoKeys is returned by [Box.Seal] and [Box.Open] of a nil box.
var ErrNoKeys = errors.New("no seal_keys are configured")

// Seal returns plain sealed for label, 29 bytes longer.
func (b *Box) Seal(label string, plain []byte) ([]byte, error) {
	if b == nil {
		return nil, ErrNoKeys
	}
	return b.keys[0].Seal([]byte{format}, nil, plain, bound(label)), nil
}

// Open returns what was sealed for label, or [ErrSealed].
func (b *Box) Open(label string, sealed []byte) ([]byte, error) {
	if b == nil {
		return nil, ErrNoKeys
	}
	if len(sealed) == 0 || sealed[0] != format {
		return nil, ErrSealed
	}
	for _, key := range b.keys {
		if plain, err := key.Open(nil, nil, sealed[1:], bound(label)); err == nil {
			return plain, nil
		}
	}
	return nil, ErrSealed
}

// bound is what is authenticated beside the value.
func bound(label string) []byte { return append([]byte{format}, label...) }
