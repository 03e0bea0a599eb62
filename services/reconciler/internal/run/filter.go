package run

import "math/bits"

// filter is a Bloom filter of hashes of 64 bits: it has all that were added, and of
// others, while there are no more than four times as many as it was made for, it
// takes one of 400 for such.
type filter struct{ words []uint64 }

const (
	filterBits   = 64 // for each hash that it is made for
	filterProbes = 4
)

func newFilter(n int) *filter { return &filter{make([]uint64, max(1, n*filterBits/64))} }

// probe returns where the i-th bit of a hash is (Kirsch and Mitzenmacher, 2006).
func (f *filter) probe(h uint64, i int) (word int, bit uint64) {
	h += uint64(i) * (bits.RotateLeft64(h, 32)*0x9e3779b97f4a7c15 | 1)
	hi, lo := bits.Mul64(h, uint64(len(f.words)))
	return int(hi), 1 << (lo >> 58)
}

func (f *filter) add(h uint64) {
	for i := range filterProbes {
		word, bit := f.probe(h, i)
		f.words[word] |= bit
	}
}

func (f *filter) has(h uint64) bool {
	for i := range filterProbes {
		if word, bit := f.probe(h, i); f.words[word]&bit == 0 {
			return false
		}
	}
	return true
}
