package report

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
)

// Digest is the sum, modulo 2^128, of a hash of each (id, version) of a set of
// records. Like the set it knows no order, so that it can be taken page by page
// on both sides. A sum and not an exclusive or: there, a record that is listed
// twice would cancel itself out, and so would any two errors that are equal.
//
// It tells accidents, not attacks: two sets that differ have the same one with
// odds of 1 to 2^128, but whoever chooses the ids can construct such sets.
type Digest struct{ hi, lo uint64 }

// digest is that of one record.
func digest(id string, version uint64) Digest {
	b := make([]byte, 0, 16+len(id))
	b = binary.BigEndian.AppendUint64(b, version)
	sum := sha256.Sum256(append(b, id...))
	return Digest{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

func (d *Digest) add(o Digest) {
	var carry uint64
	d.lo, carry = bits.Add64(d.lo, o.lo, 0)
	d.hi, _ = bits.Add64(d.hi, o.hi, carry)
}

// MarshalText writes d as 32 hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, d.hi), d.lo)
	return hex.AppendEncode(nil, b), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 16 {
		return errors.New("digest: want 32 hexadecimal digits")
	}
	d.hi, d.lo = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	return nil
}

// String gives d as 32 hexadecimal digits.
func (d Digest) String() string {
	text, _ := d.MarshalText() // it has no error
	return string(text)
}

// Set stands for a set of records in their versions. Two that are equal are of
// the same records.
type Set struct {
	Records int    `json:"records"`
	Digest  Digest `json:"digest"`
}

// Add adds a record in the version of the given ordinal.
func (s *Set) Add(id string, version uint64) {
	s.Digest.add(digest(id, version))
	s.Records++
}

// Join adds the records of another set, which must have none of s.
func (s *Set) Join(o Set) {
	s.Digest.add(o.Digest)
	s.Records += o.Records
}

// Sets are the records of one window on both sides, as they were compared.
type Sets struct {
	// Listed is what the source listed.
	Listed Set `json:"listed"`
	// Held is what the pipeline had seen of these records.
	Held Set `json:"held"`
}
