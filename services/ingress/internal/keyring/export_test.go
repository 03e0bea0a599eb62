package keyring

import (
	"context"

	"github.com/tercelhq/tercel/pkg/signature"
)

// Read gives fuzzers the reader of certificates without a server; issuers aren't
// fetched.
func (r *Ring) Read(doc []byte) (signature.SenderKey, error) {
	chain, err := parseChain(doc)
	if err != nil {
		return signature.SenderKey{}, unavailable(err.Error())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	found, err := r.accept(ended, chain)
	if err != nil {
		return signature.SenderKey{}, err
	}
	return found.key, nil
}

// ReadJWK gives fuzzers the reader of an endpoint's answer.
func (r *Ring) ReadJWK(doc []byte) (signature.SenderKey, error) {
	found, err := r.readKey(doc, "k1")
	if err != nil {
		return signature.SenderKey{}, err
	}
	return found.key, nil
}

// Sizes tells tests how much is remembered.
func (r *Ring) Sizes() (keys, refused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys), len(r.refused)
}
