package account

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
)

// Keys seal the secrets of accounts' entries and open them. Make them with
// [ParseKeys]; the zero Keys open nothing.
//
// A sealed secret is sealed:TEXT, TEXT being base64url without padding of the
// first four bytes of the key's SHA-256, a random nonce of twelve bytes, and
// what AES-256-GCM makes of the secret with "tercel account", a zero byte, the
// source's name, a zero byte and the account's name as additional data: moved
// to another account, it doesn't open. Whatever can do that may write entries.
type Keys struct{ all []sealKey }

type sealKey struct {
	id   [4]byte
	aead cipher.AEAD // with a nonce of its own in each text
}

// sealKeyBytes is the length of a key.
const sealKeyBytes = 32

// ParseKeys reads keys: 32 bytes each, in padded base64. The first one seals.
// No error repeats any part of a key.
func ParseKeys(secrets []config.Secret) (Keys, error) {
	var k Keys
	for i, s := range secrets {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Reveal())
		if err != nil || len(raw) != sealKeyBytes {
			return Keys{}, fmt.Errorf("keys[%d]: want 32 random bytes in base64, as tercel accounts key prints", i)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return Keys{}, fmt.Errorf("keys[%d]: %w", i, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return Keys{}, fmt.Errorf("keys[%d]: %w", i, err)
		}
		sum := sha256.Sum256(raw)
		k.all = append(k.all, sealKey{id: [4]byte(sum[:4]), aead: aead})
	}
	return k, nil
}

// NewKey returns a new key as [ParseKeys] reads it.
func NewKey() string {
	raw := make([]byte, sealKeyBytes)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

func (k Keys) any() bool { return len(k.all) > 0 }

// Seal returns secret as the entry of that source's account may have it. It
// returns an error if there is no key.
func (k Keys) Seal(source, account, secret string) (string, error) {
	if !k.any() {
		return "", errors.New("seal: no key")
	}
	text := k.all[0].aead.Seal(bytes.Clone(k.all[0].id[:]), nil, []byte(secret), additional(source, account))
	return "sealed:" + base64.RawURLEncoding.EncodeToString(text), nil
}

// open undoes Seal; text is without its prefix. Its error is a relative clause.
func (k Keys) open(source, account, text string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < len(sealKey{}.id) {
		return "", errors.New("that is not base64url")
	}
	known := false
	for _, key := range k.all {
		sealed, ok := bytes.CutPrefix(raw, key.id[:])
		if !ok {
			continue
		}
		known = true
		if plain, err := key.aead.Open(nil, nil, sealed, additional(source, account)); err == nil {
			return string(plain), nil
		}
	}
	if known {
		return "", errors.New("that was changed, or made for another account")
	}
	return "", errors.New("that none of accounts.keys has made")
}

func additional(source, account string) []byte {
	return []byte(strings.Join([]string{"tercel account", source, account}, "\x00"))
}
