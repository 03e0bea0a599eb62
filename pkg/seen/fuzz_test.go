package seen_test

import (
	"bytes"
	"testing"

	"github.com/tercelhq/tercel/pkg/seen"
)

// A block says the same when it is written again; all else is refused.
func FuzzBlock(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add([]byte("\x01\xde\xad\xbe\xef\x00\x00\x00\x00\x00\x00\x00\x07"))
	f.Add([]byte("\x02\xde\xad\xbe\xef\x00\x00\x00\x00\x00\x00\x00\x07"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := seen.Reencode(data); err == nil && !bytes.Equal(out, data) {
			t.Errorf("%x was read as %x", data, out)
		}
	})
}
