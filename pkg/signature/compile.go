package signature

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with a [Scheme].
type Fault struct {
	Key   string // the YAML key inside the scheme, such as "tolerance" or "key.encoding"
	Value string // what the scheme has there, as written; "" where it has nothing
	Want  string // what would be right
}

// Error reads like `tolerance: "-5m0s", want a positive duration`.
func (f Fault) Error() string { return fmt.Sprintf("%s: %q, want %s", f.Key, f.Value, f.Want) }

// Faults is every fault of one [Scheme]. A key can be in it more than once.
type Faults []Fault

// Error has one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each [Fault].
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

func (fs *Faults) add(key, value, want string) { *fs = append(*fs, Fault{key, value, want}) }

// Compile checks s and prepares what verifying needs, so that a request costs
// no parsing of s. Its error is a [Faults] with all that is wrong with s.
func Compile(s Scheme) (*Verifier, error) {
	var faults Faults
	checkEnums(&faults, s)
	checkUnused(&faults, s)
	s = s.withDefaults()
	v := &Verifier{scheme: s, size: s.Algorithm.size()}
	v.sources = signatureSources(&faults, s)
	checkHeaders(&faults, s)
	if s.Algorithm.jwt() && s.BodyHashClaim == "" {
		faults.add("body_hash_claim", "", "the claim that holds the body's hash: a token that doesn't cover the body proves nothing of it")
	}
	if p, ok := jsonPlace(s.BodyHashClaim); ok {
		v.claim = p.path
	} else if s.BodyHashClaim != "" {
		faults.add("body_hash_claim", s.BodyHashClaim, "the name of a claim")
	}
	if s.Algorithm == None && !s.Insecure {
		faults.add("insecure", "", "true, to say that whatever comes is taken")
	}
	if s.Algorithm.signs() {
		checkFormat(&faults, s)
		checkTime(&faults, s)
		v.timestamp = parsePlace(&faults, "timestamp", s.Timestamp)
		v.id = parsePlace(&faults, "id", s.ID)
		v.segments = parseSigned(&faults, s)
	}
	v.senderKey = parsePlace(&faults, "sender_key", s.SenderKey)
	v.recipient = parsePlace(&faults, "recipient", s.Recipient)
	checkSender(&faults, s, v.segments)
	if s.Tolerance < 0 {
		faults.add("tolerance", s.Tolerance.String(), "a positive duration")
	}
	if s.Key.MinBytes < minMinKeyBytes {
		faults.add("key.min_bytes", strconv.Itoa(s.Key.MinBytes), "at least 8")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	v.steps = v.listSteps()
	return v, nil
}

// checkEnums looks at the fields that are one of a few names. Required is only
// the algorithm.
func checkEnums(faults *Faults, s Scheme) {
	enum := func(key, value string, required bool, values []string) {
		if (value != "" || required) && !slices.Contains(values, value) {
			faults.add(key, value, "one of "+strings.Join(values, ", "))
		}
	}
	enum("scheme", string(s.Algorithm), true, s.Algorithm.Values())
	enum("format", string(s.Format), false, s.Format.Values())
	enum("encoding", string(s.Encoding), false, s.Encoding.Values())
	enum("key.encoding", string(s.Key.Encoding), false, s.Key.Encoding.Values())
	enum("timestamp_unit", string(s.TimestampUnit), false, s.TimestampUnit.Values())
}

// written lists the fields that only some algorithms have, with what s has in
// them.
func (s Scheme) written() []Fault {
	fields := []Fault{
		{Key: "header", Value: s.Header},
		{Key: "signature", Value: s.Signature},
		{Key: "prefix", Value: s.Prefix},
		{Key: "second_header", Value: s.SecondHeader},
		{Key: "header_series", Value: s.HeaderSeries},
		{Key: "format", Value: string(s.Format)},
		{Key: "list_separator", Value: s.ListSeparator},
		{Key: "pair_separator", Value: s.PairSeparator},
		{Key: "signature_key", Value: s.SignatureKey},
		{Key: "timestamp_key", Value: s.TimestampKey},
		{Key: "encoding", Value: string(s.Encoding)},
		{Key: "signed", Value: s.Signed},
		{Key: "id", Value: s.ID},
		{Key: "timestamp", Value: s.Timestamp},
		{Key: "timestamp_unit", Value: string(s.TimestampUnit)},
		{Key: "sender_key", Value: s.SenderKey},
		{Key: "recipient", Value: s.Recipient},
		{Key: "body_hash_claim", Value: s.BodyHashClaim},
		{Key: "key.encoding", Value: string(s.Key.Encoding)},
	}
	if s.Tolerance != 0 {
		fields = append(fields, Fault{Key: "tolerance", Value: s.Tolerance.String()})
	}
	if s.PartialBody {
		fields = append(fields, Fault{Key: "partial_body", Value: "true"})
	}
	if s.Insecure {
		fields = append(fields, Fault{Key: "insecure", Value: "true"})
	}
	return fields
}

// checkUnused finds what s says that its algorithm doesn't look at: whoever
// wrote it believes in a check that isn't made.
func checkUnused(faults *Faults, s Scheme) {
	var used []string
	unsigned := []string{"insecure", "body_hash_claim"} // what no scheme with a signed string has
	switch a := s.Algorithm; {
	case a.rsa():
		unsigned = append(unsigned, "key.encoding")
	case a.signs():
		unsigned = append(unsigned, "sender_key", "recipient")
	case a == None:
		used = []string{"insecure"}
	case a == Basic || a == Bearer:
		used = []string{"header"}
	case a == Token:
		used = []string{"header", "signature", "prefix"}
	case a == JWTES256:
		used = []string{"header", "prefix", "body_hash_claim", "tolerance", "key.encoding", "sender_key"}
	case a.jwt():
		used = []string{"header", "prefix", "body_hash_claim", "tolerance", "key.encoding"}
	}
	for _, f := range s.written() {
		switch {
		case f.Value == "":
			continue
		case s.Algorithm.signs() && !slices.Contains(unsigned, f.Key), slices.Contains(used, f.Key):
			continue
		}
		faults.add(f.Key, f.Value, "nothing here with scheme "+string(s.Algorithm))
	}
}

// signatureSources lists the places that may hold the signature.
func signatureSources(faults *Faults, s Scheme) []place {
	if s.Algorithm == None {
		return nil
	}
	var sources []place
	given := 0
	if s.Header != "" {
		given++
		sources = append(sources, place{kind: inHeader, name: http.CanonicalHeaderKey(s.Header)})
	}
	if s.Signature != "" {
		given++
		p := parsePlace(faults, "signature", s.Signature)
		if p.kind == inHeader {
			faults.add("signature", s.Signature, "a place in the body, such as body.signature or form.signature")
		}
		sources = append(sources, p)
	}
	if s.HeaderSeries != "" {
		given++
		for i := range maxCandidates {
			sources = append(sources, place{kind: inHeader, name: http.CanonicalHeaderKey(s.HeaderSeries + strconv.Itoa(i+1))})
		}
	}
	switch {
	case given == 0:
		faults.add("header", "", "the name of the request header that carries the signature")
	case given > 1:
		faults.add("header", s.Header, "one of header, header_series and signature")
	}
	if s.SecondHeader != "" {
		if s.Header == "" || s.Format != Raw {
			faults.add("second_header", s.SecondHeader, "nothing here, or header as well and format raw")
		}
		sources = append(sources, place{kind: inHeader, name: http.CanonicalHeaderKey(s.SecondHeader)})
	}
	return sources
}

// checkHeaders looks at the header names, which must differ from each other.
func checkHeaders(faults *Faults, s Scheme) {
	seen := map[string]string{}
	for _, h := range []struct{ key, name string }{
		{"header", s.Header},
		{"second_header", s.SecondHeader},
		{"header_series", s.HeaderSeries},
		{"id", s.ID},
		{"timestamp", s.Timestamp},
		{"sender_key", s.SenderKey},
	} {
		if h.name == "" || isBodyPlace(h.name) && (h.key == "timestamp" || h.key == "sender_key") {
			continue
		}
		if !validHeader(h.name) {
			faults.add(h.key, h.name, wantHeader)
		}
		canonical := http.CanonicalHeaderKey(h.name)
		if other, taken := seen[canonical]; taken {
			faults.add(h.key, h.name, "another header than "+other+" has")
		}
		seen[canonical] = h.key
	}
}

// checkFormat looks at the fields that belong to one format only.
func checkFormat(faults *Faults, s Scheme) {
	switch s.Format {
	case Raw:
		checkRaw(faults, s)
	case Pairs, Tokens:
		checkList(faults, s)
	}
}

func checkRaw(faults *Faults, s Scheme) {
	for _, f := range []struct{ key, value string }{
		{"list_separator", s.ListSeparator},
		{"pair_separator", s.PairSeparator},
		{"signature_key", s.SignatureKey},
		{"timestamp_key", s.TimestampKey},
	} {
		if f.value != "" {
			faults.add(f.key, f.value, "nothing here, or format pairs or tokens")
		}
	}
	if trim(s.Prefix) != s.Prefix {
		faults.add("prefix", s.Prefix, "text without whitespace around it")
	}
}

func checkList(faults *Faults, s Scheme) {
	if s.Prefix != "" {
		faults.add("prefix", s.Prefix, "nothing here, or format raw")
	}
	// A list separator that can be part of a signature would cut it in two.
	if len(s.ListSeparator) != 1 || isAlphanumeric(s.ListSeparator[0]) || strings.Contains("+/=", s.ListSeparator) {
		faults.add("list_separator", s.ListSeparator, "one ASCII character that encoded signatures don't have")
	}
	if len(s.PairSeparator) != 1 || isAlphanumeric(s.PairSeparator[0]) || s.PairSeparator == s.ListSeparator {
		faults.add("pair_separator", s.PairSeparator, "one ASCII character, no letter or digit, other than list_separator")
	}
	if name := s.SignatureKey; name == "" || !s.validName(name) {
		faults.add("signature_key", name, "the name of the items that hold a signature, without separators")
	}
	if name := s.TimestampKey; !s.validName(name) || name != "" && name == s.SignatureKey {
		faults.add("timestamp_key", name, "the name of the item that holds the timestamp, without separators, other than signature_key")
	}
}

// validName tells whether an item of a list header can have that name.
func (s Scheme) validName(name string) bool {
	return !strings.ContainsAny(name, whitespace+s.ListSeparator+s.PairSeparator)
}

// checkTime looks at the fields around the timestamp.
func checkTime(faults *Faults, s Scheme) {
	if s.timed() {
		if s.Timestamp != "" && s.TimestampKey != "" {
			faults.add("timestamp_key", s.TimestampKey, "nothing here, or no timestamp header")
		}
		return
	}
	if s.TimestampUnit != "" {
		faults.add("timestamp_unit", string(s.TimestampUnit), "nothing here, or timestamp or timestamp_key as well")
	}
	if s.Tolerance > 0 {
		faults.add("tolerance", s.Tolerance.String(), "nothing here, or timestamp or timestamp_key as well")
	}
}

const wantHeader = "a header name, and not Host, which Go's server keeps elsewhere"

// validHeader tells whether name is a field name after RFC 9110, section 5.1,
// that a request's header map can hold.
func validHeader(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != "" && !strings.EqualFold(name, "Host")
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
