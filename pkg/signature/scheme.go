package signature

import (
	"crypto/sha1" //nolint:gosec // some providers sign with HMAC-SHA1 only; never a fallback, see [Algorithm]
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"time"
)

// Scheme says how one provider signs its webhooks. It is data: the verify
// mapping of a pipeline file or of a preset, turned into a [Verifier] by
// [Compile]. The zero value of each optional field means its default.
type Scheme struct {
	// Algorithm is what computes a signature from a key and the signed string.
	// A sender can't choose another one. Required.
	Algorithm Algorithm `yaml:"scheme"`

	// Header is the request header that carries the signature. Case doesn't
	// matter. A request that has it more than once is refused. Required.
	Header string `yaml:"header"`

	// Prefix is the text in front of the signature in a raw header, such as
	// "sha256=". It has to be there exactly as written. Defaults to none.
	Prefix string `yaml:"prefix"`

	// Format is the grammar of Header's value. Defaults to raw.
	Format Format `yaml:"format"`

	// ListSeparator is the one character between the items of a pairs or
	// tokens header. Defaults to a comma for pairs and to a space for tokens.
	ListSeparator string `yaml:"list_separator"`

	// PairSeparator is the one character between name and value of an item in
	// a pairs or tokens header; the first one in the item counts.
	// Defaults to "=" for pairs and to a comma for tokens.
	PairSeparator string `yaml:"pair_separator"`

	// SignatureKey is the name of the items that hold a signature, such as
	// "v1". There may be several, up to 16: senders sign with the old and the
	// new secret while they rotate. Items of other names are ignored.
	// Required for pairs and tokens. Defaults to none.
	SignatureKey string `yaml:"signature_key"`

	// TimestampKey is the name of the one item that holds the time of signing,
	// such as "t". Excludes Timestamp. Defaults to none.
	TimestampKey string `yaml:"timestamp_key"`

	// Encoding is how the bytes of a signature are written. Defaults to hex.
	Encoding Encoding `yaml:"encoding"`

	// Key says how the text of a secret becomes the bytes of a key.
	// Defaults to the text itself.
	Key KeyFormat `yaml:"key"`

	// Signed is the string that the sender signs, byte for byte. {body} is the
	// request body and stands in it exactly once; {timestamp} and {id} are the
	// values as sent; {header:Name} is the value of that header; the rest is
	// literal, braces excepted. A timestamp or id that the scheme reads has to
	// be in it, since what isn't signed proves nothing. In a scheme of one's own,
	// part the values by a literal that they can't hold: "{id}{body}" reads the
	// same for the id a1 before {} as for the id a before 1{}.
	// Defaults to "{body}".
	Signed string `yaml:"signed"`

	// ID is the header that carries the id for {id}. Defaults to none.
	ID string `yaml:"id"`

	// Timestamp is the header that carries the time of signing.
	// Excludes TimestampKey. Defaults to none.
	Timestamp string `yaml:"timestamp"`

	// TimestampUnit is what the timestamp counts since 1970, UTC. It is never
	// guessed from the number of digits. Defaults to s.
	TimestampUnit Unit `yaml:"timestamp_unit"`

	// Tolerance is how far the timestamp may lie from the receiver's clock, on
	// either side, the bound included: room for the way, for retries that
	// aren't signed anew, and for clocks that differ. Defaults to 5m.
	Tolerance time.Duration `yaml:"tolerance"`
}

// KeyFormat says how the text of a secret becomes the bytes of a key.
type KeyFormat struct {
	// Encoding is how the secret is written. Defaults to text.
	Encoding KeyEncoding `yaml:"encoding"`

	// StripPrefix is removed from the front of the secret where it's present,
	// before decoding, such as "whsec_". Defaults to none.
	StripPrefix string `yaml:"strip_prefix"`
}

// Algorithm names what computes signatures.
type Algorithm string

// The algorithms. SHA-1 is for the providers that offer nothing better: as a
// MAC it is still sound, but no scheme ever falls back to it.
const (
	HMACSHA256 Algorithm = "hmac-sha256"
	HMACSHA512 Algorithm = "hmac-sha512"
	HMACSHA1   Algorithm = "hmac-sha1"
)

// Values lists what an Algorithm can be.
func (Algorithm) Values() []string {
	return []string{string(HMACSHA256), string(HMACSHA512), string(HMACSHA1)}
}

// hash returns what makes the hash under the HMAC, or nil for an unknown name.
func (a Algorithm) hash() func() hash.Hash {
	switch a {
	case HMACSHA256:
		return sha256.New
	case HMACSHA512:
		return sha512.New
	case HMACSHA1:
		return sha1.New
	}
	return nil
}

// Format names the grammar of a signature header.
type Format string

// The formats. Pairs and tokens are one grammar with different separators.
const (
	Raw    Format = "raw"    // one signature after an optional prefix: sha256=0a1b…
	Pairs  Format = "pairs"  // a list of name=value: t=1760000000,v1=0a1b…,v1=2c3d…
	Tokens Format = "tokens" // a list of version,signature: v1,aGVsbG8= v1,d29ybGQ=
)

// Values lists what a Format can be.
func (Format) Values() []string { return []string{string(Raw), string(Pairs), string(Tokens)} }

// Encoding names how the bytes of a signature are written.
type Encoding string

// The encodings of a signature. Both are strict: a signature has exactly the
// length that its algorithm gives it.
const (
	Hex    Encoding = "hex"    // either case
	Base64 Encoding = "base64" // the standard alphabet, padded, canonical
)

// Values lists what an Encoding can be.
func (Encoding) Values() []string { return []string{string(Hex), string(Base64)} }

// KeyEncoding names how a secret is written.
type KeyEncoding string

// The encodings of a secret.
const (
	KeyText   KeyEncoding = "text"   // the key is the text itself, whatever it looks like
	KeyBase64 KeyEncoding = "base64" // the standard alphabet, padded, canonical
	KeyHex    KeyEncoding = "hex"    // either case
)

// Values lists what a KeyEncoding can be.
func (KeyEncoding) Values() []string {
	return []string{string(KeyText), string(KeyBase64), string(KeyHex)}
}

// Unit names what a timestamp counts.
type Unit string

// The units of a timestamp.
const (
	Seconds      Unit = "s"
	Milliseconds Unit = "ms"
)

// Values lists what a Unit can be.
func (Unit) Values() []string { return []string{string(Seconds), string(Milliseconds)} }

// withDefaults returns s with each unset optional field at its default.
func (s Scheme) withDefaults() Scheme {
	orDefault(&s.Format, Raw)
	orDefault(&s.Encoding, Hex)
	orDefault(&s.Key.Encoding, KeyText)
	orDefault(&s.Signed, "{body}")
	switch s.Format {
	case Pairs:
		orDefault(&s.ListSeparator, ",")
		orDefault(&s.PairSeparator, "=")
	case Tokens:
		orDefault(&s.ListSeparator, " ")
		orDefault(&s.PairSeparator, ",")
	}
	if s.timed() {
		orDefault(&s.TimestampUnit, Seconds)
		orDefault(&s.Tolerance, 5*time.Minute)
	}
	return s
}

// timed tells whether requests of s carry a signed time.
func (s Scheme) timed() bool { return s.Timestamp != "" || s.TimestampKey != "" }

// orDefault sets *field to value where it is unset.
func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
