package collector

import "github.com/tercelhq/tercel/pkg/consume"

// DecodeAdvisory lets the fuzzer reach what reads advisories.
func DecodeAdvisory(data []byte) (stream, consumer string, seq uint64, reason consume.Reason, err error) {
	a, err := decode(data)
	return a.Stream, a.Consumer, a.Sequence, a.reason(), err
}
