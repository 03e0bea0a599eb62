package delivery

import (
	"crypto/sha256"
	"fmt"

	"github.com/tercelhq/tercel/pkg/event"
)

// Key is an event's identity, hashed so that its length doesn't matter. Two of a
// million events share 128 bits with odds of 1 in 10^26.
type Key [16]byte

// KeyOf returns the key of an event, which its source, its account and its id
// make up. Destinations keep keys: they never change.
func KeyOf(e event.Event) Key {
	// The lengths keep the parts apart, whatever is in them.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d:%s%s%s", len(e.Source), len(e.Account), e.Source, e.Account, e.ID))
	return Key(sum[:len(Key{})])
}
