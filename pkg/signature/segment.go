package signature

import (
	"slices"
	"strings"
)

// segment is a part of the signed string.
type segment struct {
	kind  segmentKind
	text  string  // the literal, or the canonical name of the header
	value place   // of a json or form segment
	lines []place // of jsonLines
	names []string
	index int // in message.values, of a computed segment
}

type segmentKind uint8

const (
	literal segmentKind = iota
	body
	timestamp
	id
	header
	method
	publicURL
	publicPath
	secretText
	// The rest is computed for each request and kept in message.values.
	bodySHA256
	bodyCRC32
	jsonText
	jsonLines
	formField
	formSorted
	signedHeaders
)

// computed tells whether a segment's text is found once for each request.
func (k segmentKind) computed() bool { return k >= bodySHA256 }

// covers tells whether a segment covers the whole body, or a part of it.
func (k segmentKind) covers() (whole, part bool) {
	switch k {
	case body, bodySHA256, bodyCRC32, formSorted:
		return true, false
	case jsonText, jsonLines, formField:
		return false, true
	}
	return false, false
}

const placeholders = "{body}, {timestamp}, {id}, {header:Name} and the others that the documentation of signed lists"

// parseSigned splits the template of the signed string into its segments.
func parseSigned(faults *Faults, s Scheme) []segment {
	var segments []segment
	computed := 0
	for rest := s.Signed; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i != 0 {
			if i < 0 {
				i = len(rest)
			}
			segments = append(segments, segment{kind: literal, text: rest[:i]})
			rest = rest[i:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		seg, ok := placeholder(rest[:max(end+1, 0)])
		if !ok {
			faults.add("signed", s.Signed, "only "+placeholders+" between braces")
			return nil
		}
		if seg.kind.computed() {
			seg.index = computed
			computed++
		}
		segments = append(segments, seg)
		rest = rest[end+1:]
	}
	checkSigned(faults, s, segments)
	return segments
}

// checkSigned looks at what the signed string covers.
func checkSigned(faults *Faults, s Scheme, segments []segment) {
	fault := func(want string) { faults.add("signed", s.Signed, want) }
	count := map[segmentKind]int{}
	wholes, parts := 0, 0
	for _, seg := range segments {
		count[seg.kind]++
		whole, part := seg.kind.covers()
		if whole {
			wholes++
		}
		if part {
			parts++
		}
		if (seg.kind == header || seg.kind == signedHeaders) && s.owns(seg.text) {
			fault("{header:Name} of none of the scheme's own headers")
		}
	}
	if s.PartialBody {
		if wholes > 0 || parts == 0 {
			faults.add("partial_body", "true", "nothing here, or a signed string with {json:…} or {form:…} and without the whole body")
		}
	} else if wholes != 1 {
		fault("{body} exactly once: a body that isn't signed can be anyone's")
	}
	// A time in the body is signed with it.
	inBody := isBodyPlace(s.Timestamp) && (!s.PartialBody || slices.ContainsFunc(segments, func(seg segment) bool {
		return slices.Contains(seg.names, strings.TrimPrefix(s.Timestamp, jsonPrefix))
	}))
	if timed := s.timed(); timed && count[timestamp] == 0 && !inBody && (count[signedHeaders] == 0 || s.TimestampKey != "") {
		fault("{timestamp}: a time that isn't signed proves nothing")
	} else if !timed && count[timestamp] > 0 {
		fault("no {timestamp}, or timestamp or timestamp_key as well")
	}
	if s.ID != "" && count[id] == 0 {
		fault("{id}: an id that isn't signed proves nothing")
	} else if s.ID == "" && count[id] > 0 {
		fault("no {id}, or id as well")
	}
}

// owns tells whether name is a header that the scheme itself reads: a signature
// can't cover itself, and id and timestamp have placeholders.
func (s Scheme) owns(name string) bool {
	series := s.HeaderSeries != "" && len(name) >= len(s.HeaderSeries) && strings.EqualFold(name[:len(s.HeaderSeries)], s.HeaderSeries)
	return series || strings.EqualFold(name, s.Header) || strings.EqualFold(name, s.SecondHeader) ||
		strings.EqualFold(name, s.ID) || strings.EqualFold(name, s.Timestamp) || strings.EqualFold(name, s.SenderKey)
}

// plainPlaceholders are those without an argument.
var plainPlaceholders = map[string]segmentKind{
	"{body}": body, "{timestamp}": timestamp, "{id}": id, "{method}": method, "{url}": publicURL, "{path}": publicPath,
	"{body_sha256}": bodySHA256, "{body_crc32}": bodyCRC32, "{form_sorted}": formSorted, "{secret}": secretText,
}

// placeholder reads a text such as "{body}" or "{header:Name}".
func placeholder(text string) (segment, bool) {
	if kind, ok := plainPlaceholders[text]; ok {
		return segment{kind: kind}, true
	}
	name, arg, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}"), ":")
	if !ok || arg == "" {
		return segment{}, false
	}
	switch name {
	case "header":
		return segment{kind: header, text: canonical(arg)}, validHeader(arg)
	case "signed_headers":
		return segment{kind: signedHeaders, text: canonical(arg)}, validHeader(arg)
	case "form":
		return segment{kind: formField, value: place{kind: inForm, name: arg}}, true
	case "json":
		p, ok := jsonPlace(arg)
		return segment{kind: jsonText, value: p}, ok
	case "json_lines":
		seg := segment{kind: jsonLines, names: strings.Fields(arg)}
		for _, member := range seg.names {
			p, ok := jsonPlace(member)
			if !ok {
				return segment{}, false
			}
			seg.lines = append(seg.lines, p)
		}
		return seg, len(seg.lines) > 0
	}
	return segment{}, false
}
