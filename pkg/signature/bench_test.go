package signature_test

import (
	"bytes"
	"testing"

	"github.com/tercelhq/tercel/pkg/signature"
)

// Hashing the body should be all that costs: no allocation, whatever the scheme.
func BenchmarkVerify(b *testing.B) {
	for name, text := range map[string]string{"raw": github, "pairs": stripe, "tokens": standard} {
		for size, n := range map[string]int{"1KiB": 1 << 10, "64KiB": 64 << 10} {
			b.Run(name+"/"+size, func(b *testing.B) {
				secret := secret
				if text == standard {
					secret = standardSecret
				}
				v, k := compile(b, text), key(b, text, secret)
				keys := []signature.Key{k}
				body := bytes.Repeat([]byte("x"), n)
				r := signature.Request{Header: v.Sign(k, body, "msg_1", at), Body: body}
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if err := v.Verify(r, keys, at); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
