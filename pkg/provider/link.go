package provider

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Bounds of what an API may say of its next page.
const (
	maxLinkBytes = 16 << 10
	maxLinks     = 64
	// maxPosition bounds a cursor, a link or an id, in bytes: it is kept with the
	// window.
	maxPosition = 8 << 10
)

var errLink = errors.New("link header: not as RFC 8288 writes it")

// NextLink returns the target of the link with the relation "next" in the
// values of an answer's Link headers (RFC 8288, read 2026-11), or "" if none
// has it. Links that speak of another resource (anchor) don't count. A header
// that is malformed, over 16 KiB or over 64 links long, or that names two next
// pages is an error: it must not pass for the end of a list.
func NextLink(headers []string) (string, error) {
	text := strings.Join(headers, ",")
	if len(text) > maxLinkBytes {
		return "", fmt.Errorf("link header: over %d bytes", maxLinkBytes)
	}
	next, links := "", 0
	for s := (linkScanner{text}); ; {
		s.skip(" \t,")
		if s.rest == "" {
			return next, nil
		}
		target, isNext, err := s.link()
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("link header: over %d links", maxLinks)
		}
		if isNext && next != "" && next != target {
			return "", errors.New("link header: two links to a next page")
		}
		if isNext {
			next = target
		}
	}
}

// linkScanner takes a Link header apart from its front.
type linkScanner struct{ rest string }

func (s *linkScanner) skip(set string) { s.rest = strings.TrimLeft(s.rest, set) }

// take removes a byte from the front, if it is there.
func (s *linkScanner) take(b byte) bool {
	if s.rest == "" || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// link takes one link with its parameters, up to the comma behind it or the end.
func (s *linkScanner) link() (target string, isNext bool, err error) {
	end := strings.IndexByte(s.rest, '>')
	if !s.take('<') || end < 1 {
		return "", false, errLink
	}
	target, s.rest = s.rest[:end-1], s.rest[end:]
	if target == "" || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == '<' || r == '"' || r >= 0x7f }) {
		return "", false, errLink
	}
	related, elsewhere := false, false
	for {
		s.skip(" \t")
		if s.rest == "" || s.rest[0] == ',' {
			return target, isNext && !elsewhere, nil
		}
		if !s.take(';') {
			return "", false, errLink
		}
		s.skip(" \t")
		if s.rest == "" || s.rest[0] == ';' || s.rest[0] == ',' {
			continue
		}
		name, value, err := s.param()
		if err != nil {
			return "", false, err
		}
		switch strings.ToLower(name) {
		case "rel":
			if !related { // the first counts
				isNext = hasRelation(value, "next")
			}
			related = true
		case "anchor":
			elsewhere = true
		}
	}
}

func hasRelation(value, relation string) bool {
	for _, r := range strings.Fields(value) {
		if strings.EqualFold(r, relation) {
			return true
		}
	}
	return false
}

// param takes one parameter: name, name=token or name="text".
func (s *linkScanner) param() (name, value string, err error) {
	if name = s.token(); name == "" {
		return "", "", errLink
	}
	s.skip(" \t")
	if !s.take('=') {
		return name, "", nil
	}
	s.skip(" \t")
	if s.take('"') {
		value, err = s.quoted()
		return name, value, err
	}
	if value = s.token(); value == "" {
		return "", "", errLink
	}
	return name, value, nil
}

func (s *linkScanner) token() string {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
	if end < 0 {
		end = len(s.rest)
	}
	token := s.rest[:end]
	s.rest = s.rest[end:]
	return token
}

// quoted takes what stands before the closing quote.
func (s *linkScanner) quoted() (string, error) {
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		case c == '\\' || c < ' ' && c != '\t' || c == 0x7f:
			return "", errLink
		default:
			b.WriteByte(c)
		}
	}
	return "", errLink
}

// Below returns what to ask the API at base for to follow a link that it wrote
// in its answer to a request for path: a path with its query below base. The
// link may be absolute or relative to that request. One that leads to another
// scheme, host or port, or out of base's path, is an error, which doesn't quote
// it.
func Below(base, path, link string) (string, error) {
	if len(link) > maxPosition {
		return "", fmt.Errorf("link to the next page: over %d bytes", maxPosition)
	}
	if strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return "", errors.New("link to the next page: no URL")
	}
	base = strings.TrimRight(base, "/")
	origin, err := url.Parse(base)
	if err != nil {
		return "", errors.New("base: no URL") // its text may hold a password
	}
	asked, err := url.Parse(base + path)
	if err != nil {
		return "", errors.New("path: no URL")
	}
	ref, err := url.Parse(link)
	if err != nil { // its text would quote it
		return "", errors.New("link to the next page: no URL")
	}
	to := asked.ResolveReference(ref)
	if !SameOrigin(to, origin) || to.User != nil {
		return "", errors.New("link to the next page: leaves the API's host (api.base)")
	}
	below, ok := strings.CutPrefix(to.EscapedPath(), origin.EscapedPath())
	if !ok || !strings.HasPrefix(below, "/") {
		return "", errors.New("link to the next page: leaves the path of api.base")
	}
	if to.RawQuery != "" {
		below += "?" + to.RawQuery
	}
	return below, nil
}

// SameOrigin reports whether two addresses have the same scheme, host and port.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}
