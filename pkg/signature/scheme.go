package signature

import (
	"crypto/ed25519"
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

	// Header is the request header that carries the signature, the token or the
	// credentials. Case doesn't matter. A request that has it more than once is
	// refused. Required, unless HeaderSeries or Signature says where else the
	// signature is. Defaults to Authorization for bearer and basic.
	Header string `yaml:"header"`

	// SecondHeader is one more header that may carry a signature, such as the
	// one under a second key. One of the two must be there and match.
	// Defaults to none.
	SecondHeader string `yaml:"second_header"`

	// HeaderSeries is the beginning of the names of headers that each carry a
	// signature, such as "X-DocuSign-Signature-", which the numbers 1 to 16
	// follow. One must be there and match. Excludes Header. Defaults to none.
	HeaderSeries string `yaml:"header_series"`

	// Signature is where in the body the signature is, for senders that put it
	// there: body.path.to.it in JSON, or form.name. Excludes Header.
	// Defaults to none.
	Signature string `yaml:"signature"`

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
	// new secret while they rotate. Items of other names are ignored. "*" takes
	// items of every name but the timestamp's: where the name is the sender's key id.
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

	// Signed is the string that the sender signs, byte for byte: literal text,
	// braces excepted, and these placeholders.
	//
	//	{body}             the request's body
	//	{body_sha256}      its SHA-256, in lower-case hex
	//	{body_crc32}       its CRC-32 (IEEE), in decimal
	//	{timestamp} {id}   the values of the fields below, as sent
	//	{header:Name}      that header
	//	{signed_headers:Name}  "name:value" of each header that the list in header
	//	                   Name has, in lower case and joined by semicolons
	//	{secret}           the secret, for rsa alone: senders that sign for everyone
	//	                   sign what they know the receiver by
	//	{method}           the request's method
	//	{url} {path}       the public URL with its query, or its path with its query
	//	{json:a.b}         the text at that path of a JSON body, "" where none is
	//	{json_lines:a b}   name and value of each of these members that is there, on a
	//	                   line of its own; they are texts, and only the first may
	//	                   have line breaks, which would otherwise make other members
	//	{form:name}        the value of that field of a form
	//	{form_sorted}      names and values of a form, sorted; for another body its
	//	                   SHA-256 is wanted in the query, as bodySHA256
	//
	// The body stands in it exactly once, in one of its forms. What stands in
	// parts, as {json:…} or {form:…}, needs PartialBody. A timestamp or id that
	// the scheme reads has to be in it, since what isn't signed proves nothing. In
	// a scheme of one's own, part the values by a literal that they can't hold:
	// "{id}{body}" reads the same for the id a1 before {} as for the id a before
	// 1{}. Defaults to "{body}".
	Signed string `yaml:"signed"`

	// PartialBody says that the sender signs only a part of the body. Anyone who
	// has seen one request can then make others that differ in the rest.
	// Defaults to false.
	PartialBody bool `yaml:"partial_body"`

	// ID is the header that carries the id for {id}. Defaults to none.
	ID string `yaml:"id"`

	// Timestamp is the header that carries the time of signing, or body.path or
	// form.name where the body does. Excludes TimestampKey. Defaults to none.
	Timestamp string `yaml:"timestamp"`

	// TimestampUnit is what the timestamp counts since 1970, UTC. It is never
	// guessed from the number of digits. Defaults to s.
	TimestampUnit Unit `yaml:"timestamp_unit"`

	// Tolerance is how far the timestamp may lie from the receiver's clock, on
	// either side, the bound included: room for the way, for retries that
	// aren't signed anew, and for clocks that differ. Defaults to 5m.
	Tolerance time.Duration `yaml:"tolerance"`

	// SenderKey is where a request names the sender's public key that it is signed
	// with, to be fetched: a header or body.path, or kid for the header of a JSON
	// Web Token. It is looked at before the signature, so it only ever chooses
	// among keys that the receiver takes for the sender's.
	// Required for rsa; defaults to none, which is a key among the secrets.
	SenderKey string `yaml:"sender_key"`

	// Recipient is where a signed body has what the sender knows the receiver by,
	// as body.path, for senders that sign with one key for everyone. It has to be
	// one of the secrets. Required for rsa unless Signed has {secret}.
	Recipient string `yaml:"recipient"`

	// BodyHashClaim is the claim of a JSON Web Token that holds the SHA-256 of
	// the body in hex. Required for jwt-hs256 and jwt-es256.
	BodyHashClaim string `yaml:"body_hash_claim"`

	// Insecure has to be true for scheme none, and for nothing else: whoever
	// knows the address can then send events. Defaults to false.
	Insecure bool `yaml:"insecure"`
}

// StandardWebhooks returns the scheme of the Standard Webhooks specification
// (standardwebhooks.com, read November 2026).
func StandardWebhooks() Scheme {
	return Scheme{
		Algorithm: HMACSHA256, Header: "webhook-signature", Format: Tokens, SignatureKey: "v1", Encoding: Base64,
		Key: KeyFormat{Encoding: KeyBase64, StripPrefix: "whsec_"},
		ID:  "webhook-id", Timestamp: "webhook-timestamp", Signed: "{id}.{timestamp}.{body}",
	}
}

// KeyFormat says how the text of a secret becomes the bytes of a key.
type KeyFormat struct {
	// Encoding is how the secret is written. Defaults to text.
	Encoding KeyEncoding `yaml:"encoding"`

	// StripPrefix is removed from the front of the secret where it's present,
	// before decoding, such as "whsec_". Defaults to none.
	StripPrefix string `yaml:"strip_prefix"`

	// MinBytes is how long a key has to be after decoding, at least 8. Lower it
	// only for a sender that hands out shorter ones. Defaults to [MinKeyBytes].
	MinBytes int `yaml:"min_bytes"`
}

// Algorithm names what computes signatures.
type Algorithm string

// The algorithms. SHA-1 is for the providers that offer nothing better: as a
// MAC it is still sound, but no scheme ever falls back to it.
const (
	HMACSHA256 Algorithm = "hmac-sha256"
	HMACSHA512 Algorithm = "hmac-sha512"
	HMACSHA1   Algorithm = "hmac-sha1"
	SHA256     Algorithm = "sha256"            // a plain hash over the secret and then the signed string
	Ed25519    Algorithm = "ed25519"           // the secret is the sender's public key
	ECDSAP256  Algorithm = "ecdsa-p256-sha256" // likewise; signatures are DER
	JWTHS256   Algorithm = "jwt-hs256"         // a token over the body's hash, under a shared secret
	JWTES256   Algorithm = "jwt-es256"         // likewise, under the sender's public key
	RSASHA256  Algorithm = "rsa-sha256"        // RSA (PKCS #1 v1.5) under a key that SenderKey names; the secret is the receiver's name
	// RSAEither takes a SHA-1 as well, for a sender that lets its users choose.
	RSAEither Algorithm = "rsa-sha256-or-sha1"
	Token     Algorithm = "token"  // the secret itself, in a header or the body
	Bearer    Algorithm = "bearer" // the secret itself, after "Bearer "
	Basic     Algorithm = "basic"  // the secret is user:password
	None      Algorithm = "none"   // whatever comes is taken; needs Insecure
)

// Values lists what an Algorithm can be.
func (Algorithm) Values() []string {
	return []string{
		string(HMACSHA256), string(HMACSHA512), string(HMACSHA1), string(SHA256), string(Ed25519), string(ECDSAP256),
		string(JWTHS256), string(JWTES256), string(RSASHA256), string(RSAEither), string(Token), string(Bearer), string(Basic),
		string(None),
	}
}

// hash returns what makes the hash under a MAC, or nil for an algorithm that
// isn't one.
func (a Algorithm) hash() func() hash.Hash {
	switch a {
	case HMACSHA256, SHA256:
		return sha256.New
	case HMACSHA512:
		return sha512.New
	case HMACSHA1:
		return sha1.New
	}
	return nil
}

// public tells whether signatures of a are checked with a public key.
func (a Algorithm) public() bool { return a == Ed25519 || a == ECDSAP256 }

// rsa tells whether a's signatures are RSA's, under a key that is fetched.
func (a Algorithm) rsa() bool { return a == RSASHA256 || a == RSAEither }

// jwt tells whether a's signatures are JSON Web Tokens.
func (a Algorithm) jwt() bool { return a == JWTHS256 || a == JWTES256 }

// credential tells whether a sends its secret instead of a signature.
func (a Algorithm) credential() bool { return a == Token || a == Bearer || a == Basic }

// Signs tells whether a's proof is of what is sent, rather than only of who sends it
// or of nothing.
func (a Algorithm) Signs() bool { return !a.credential() && a != None }

// signs tells whether a makes signatures over the string that Signed says.
func (a Algorithm) signs() bool { return a.Signs() && !a.jwt() }

// size returns the bytes of a's signatures, or 0 where they vary.
func (a Algorithm) size() int {
	if newHash := a.hash(); newHash != nil {
		return newHash().Size()
	}
	if a == Ed25519 {
		return ed25519.SignatureSize
	}
	return 0
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

// The encodings of a signature. All are strict: a signature has exactly the
// length that its algorithm gives it.
const (
	Hex       Encoding = "hex"       // either case
	Base64    Encoding = "base64"    // the standard alphabet, padded, canonical
	Base64URL Encoding = "base64url" // the URL's alphabet, unpadded, canonical
)

// Values lists what an Encoding can be.
func (Encoding) Values() []string { return []string{string(Hex), string(Base64), string(Base64URL)} }

// KeyEncoding names how a secret is written.
type KeyEncoding string

// The encodings of a secret.
const (
	KeyText   KeyEncoding = "text"   // the key is the text itself, whatever it looks like
	KeyBase64 KeyEncoding = "base64" // the standard alphabet, padded, canonical
	KeyHex    KeyEncoding = "hex"    // either case
	KeySHA1   KeyEncoding = "sha1"   // the key is the SHA-1 of the text
)

// Values lists what a KeyEncoding can be.
func (KeyEncoding) Values() []string {
	return []string{string(KeyText), string(KeyBase64), string(KeyHex), string(KeySHA1)}
}

// Unit names what a timestamp counts.
type Unit string

// The units of a timestamp.
const (
	Seconds      Unit = "s"
	Milliseconds Unit = "ms"
	RFC3339      Unit = "rfc3339" // a written time, such as 2025-10-09T08:53:20Z
)

// Values lists what a Unit can be.
func (Unit) Values() []string {
	return []string{string(Seconds), string(Milliseconds), string(RFC3339)}
}

// withDefaults returns s with each unset optional field at its default.
func (s Scheme) withDefaults() Scheme {
	orDefault(&s.Format, Raw)
	orDefault(&s.Encoding, Hex)
	orDefault(&s.Key.Encoding, KeyText)
	orDefault(&s.Key.MinBytes, MinKeyBytes)
	if s.Algorithm == Bearer || s.Algorithm == Basic {
		orDefault(&s.Header, "Authorization")
	}
	if s.Algorithm.signs() {
		orDefault(&s.Signed, "{body}")
	}
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
func (s Scheme) timed() bool { return s.Timestamp != "" || s.TimestampKey != "" || s.Algorithm.jwt() }

// orDefault sets *field to value where it is unset.
func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
