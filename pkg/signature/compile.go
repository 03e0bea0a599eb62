package signature

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
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
	s = s.withDefaults()
	checkHeaders(&faults, s)
	checkFormat(&faults, s)
	checkTime(&faults, s)
	segments := parseSigned(&faults, s)
	if len(faults) > 0 {
		return nil, faults
	}
	v := &Verifier{
		scheme:   s,
		header:   http.CanonicalHeaderKey(s.Header),
		idHeader: http.CanonicalHeaderKey(s.ID),
		tsHeader: http.CanonicalHeaderKey(s.Timestamp),
		size:     s.Algorithm.hash()().Size(),
		segments: segments,
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

// checkHeaders looks at the header names, which must differ from each other.
func checkHeaders(faults *Faults, s Scheme) {
	if s.Header == "" {
		faults.add("header", "", "the name of the request header that carries the signature")
	}
	seen := map[string]string{}
	for _, h := range []struct{ key, name string }{{"header", s.Header}, {"id", s.ID}, {"timestamp", s.Timestamp}} {
		if h.name == "" {
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
		if s.Tolerance < 0 {
			faults.add("tolerance", s.Tolerance.String(), "a positive duration")
		}
		return
	}
	if s.TimestampUnit != "" {
		faults.add("timestamp_unit", string(s.TimestampUnit), "nothing here, or timestamp or timestamp_key as well")
	}
	if s.Tolerance != 0 {
		faults.add("tolerance", s.Tolerance.String(), "nothing here, or timestamp or timestamp_key as well")
	}
}

// segment is a part of the signed string. Text is the literal, or the canonical
// name of the header for a segment of kind header.
type segment struct {
	kind segmentKind
	text string
}

type segmentKind uint8

const (
	literal segmentKind = iota
	body
	timestamp
	id
	header
)

// parseSigned splits the template of the signed string into its segments.
func parseSigned(faults *Faults, s Scheme) []segment {
	var segments []segment
	count := map[segmentKind]int{}
	fault := func(want string) { faults.add("signed", s.Signed, want) }
	for rest := s.Signed; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i != 0 {
			if i < 0 {
				i = len(rest)
			}
			segments = append(segments, segment{literal, rest[:i]})
			rest = rest[i:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		seg, ok := placeholder(rest[:max(end+1, 0)])
		if !ok {
			fault("only {body}, {timestamp}, {id}, {header:Name} between braces")
			return nil
		}
		segments = append(segments, seg)
		count[seg.kind]++
		rest = rest[end+1:]
	}
	for _, seg := range segments {
		if seg.kind == header && s.owns(seg.text) {
			fault("{header:Name} of none of the scheme's own headers")
		}
	}
	if count[body] != 1 {
		fault("{body} exactly once: a body that isn't signed can be anyone's")
	}
	if timed := s.timed(); timed && count[timestamp] == 0 {
		fault("{timestamp}: a time that isn't signed proves nothing")
	} else if !timed && count[timestamp] > 0 {
		fault("no {timestamp}, or timestamp or timestamp_key as well")
	}
	if s.ID != "" && count[id] == 0 {
		fault("{id}: an id that isn't signed proves nothing")
	} else if s.ID == "" && count[id] > 0 {
		fault("no {id}, or id as well")
	}
	return segments
}

// owns tells whether name is a header that the scheme itself reads: a signature
// can't cover itself, and id and timestamp have placeholders.
func (s Scheme) owns(name string) bool {
	return strings.EqualFold(name, s.Header) || strings.EqualFold(name, s.ID) || strings.EqualFold(name, s.Timestamp)
}

// placeholder reads a text such as "{body}".
func placeholder(text string) (segment, bool) {
	switch text {
	case "{body}":
		return segment{kind: body}, true
	case "{timestamp}":
		return segment{kind: timestamp}, true
	case "{id}":
		return segment{kind: id}, true
	}
	name, ok := strings.CutPrefix(text, "{header:")
	name = strings.TrimSuffix(name, "}")
	return segment{header, http.CanonicalHeaderKey(name)}, ok && validHeader(name)
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

// at reads a timestamp: at most 13 digits without a leading zero, sign, point
// or space, so that there is one way to write a time and no overflow.
func (u Unit) at(text string) (time.Time, bool) {
	if len(text) == 0 || len(text) > 13 || text[0] == '0' {
		return time.Time{}, false
	}
	var n int64
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
		n = n*10 + int64(c-'0')
	}
	if u == Milliseconds {
		return time.UnixMilli(n), true
	}
	return time.Unix(n, 0), true
}
