package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/signature"
)

// MaxEcho is the largest value of a request that an answer has in it, and the
// largest body of an unsigned handshake, in bytes.
const MaxEcho = 4 << 10

// ErrNotAllowed is returned for a handshake whose [Handshake].Check isn't what
// it has to be.
var ErrNotAllowed = errors.New("not allowed")

const wantPart = "a part of the request such as header.X-Challenge, query.challenge, form.challenge or body.challenge"

// Roots of parts.
const (
	rootHeader = "header"
	rootQuery  = "query"
	rootForm   = "form"
	rootBody   = "body"
	rootLimit  = "limit"
)

// Part is a part of a request: header.NAME, query.NAME or form.NAME, in which
// dots belong to the name, or body.path in a JSON body. Beside these limit is how
// many requests a minute the source's rate allows, or "*". Make it with
// [ParsePart].
type Part struct {
	root, name string
	path       field.Path
}

// ParsePart reads a part such as query.hub.challenge or body.challenge.
func ParsePart(text string) (Part, error) {
	root, name, _ := strings.Cut(text, ".")
	p := Part{root: root, name: name}
	var err error
	switch {
	case text == rootLimit:
		return p, nil
	case name == "":
		err = errors.New("no name")
	case root == rootBody:
		if p.path, err = field.ParsePath(name); err == nil && p.path.Many() {
			err = errors.New("many values")
		}
	case root != rootHeader && root != rootQuery && root != rootForm:
		err = errors.New("no such root")
	}
	if err != nil {
		return Part{}, errors.New(wantPart)
	}
	return p, nil
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Part) Forms() []any { return []any{""} }

// DecodeNode reads the text of a part.
func (p *Part) DecodeNode(n config.Node) {
	var err error
	if *p, err = ParsePart(n.Text()); err != nil {
		n.Fault(err.Error())
	}
}

// IsZero reports whether there is no part.
func (p Part) IsZero() bool { return p.root == "" }

// String gives the part as it is written.
func (p Part) String() string {
	if p.name == "" {
		return p.root
	}
	return p.root + "." + p.name
}

// Value is one value of an answer: "=text" is that text, a [Part] is given back
// as it came, and {hmac: PART, encoding: hex or base64, prefix: TEXT} is the
// part's HMAC-SHA256 under the source's secret that the request was signed with.
type Value struct {
	fixed  string
	from   Part
	mac    *signature.Verifier // nil gives the part itself
	prefix string
}

// macValue is the long form of a [Value].
type macValue struct {
	// HMAC is the part whose HMAC-SHA256 is the value. Required.
	HMAC Part `yaml:"hmac"`
	// Encoding is how it is written. Defaults to hex.
	Encoding signature.Encoding `yaml:"encoding"`
	// Prefix is a text in front of it. Defaults to none.
	Prefix string `yaml:"prefix"`
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Value) Forms() []any { return []any{"", macValue{}} }

// DecodeNode reads one of the three forms.
func (v *Value) DecodeNode(n config.Node) {
	*v = Value{}
	if n.Kind() == config.Scalar {
		fixed, ok := strings.CutPrefix(n.Text(), "=")
		if !ok {
			v.from.DecodeNode(n)
		} else if v.fixed = fixed; fixed == "" {
			n.Fault("a text after =")
		}
		return
	}
	var long macValue
	if !n.Decode(&long) {
		return
	}
	mac, err := signature.Compile(signature.Scheme{Algorithm: signature.HMACSHA256, Header: macHeader, Encoding: long.Encoding})
	if err != nil || long.HMAC.IsZero() {
		n.Fault("a part, a text after =, or {hmac: a part, encoding: hex or base64}")
		return
	}
	*v = Value{from: long.HMAC, mac: mac, prefix: long.Prefix}
}

// macHeader is where an HMAC that is no signature of a request is taken from.
const macHeader = "Mac"

// IsZero reports whether there is no value.
func (v Value) IsZero() bool { return v.fixed == "" && v.from.IsZero() }

// Call is a request that may be a handshake. It is not safe for concurrent use.
type Call struct {
	// Header has canonical names, as net/http gives it.
	Header http.Header
	// Query is the URL's query as received.
	Query string
	// MediaType is that of the body, without parameters.
	MediaType string
	// Body is the body as received.
	Body []byte
	// Limit is the source's rate.
	Limit Rate

	query, form url.Values // once they were asked for
	strict      *bool      // the body is strict JSON, once it was asked
}

// text returns a part's text. What is there twice isn't there: two readers could
// take two different values.
func (r *Call) text(p Part) (string, bool) {
	var values []string
	switch p.root {
	case rootHeader:
		values = r.Header.Values(p.name)
	case rootQuery:
		if r.query == nil {
			r.query = parseQuery(r.Query)
		}
		values = r.query[p.name]
	case rootForm:
		if r.form == nil && r.MediaType == "application/x-www-form-urlencoded" {
			r.form = parseQuery(string(r.Body))
		}
		values = r.form[p.name]
	case rootBody:
		v, ok := r.json(p)
		if !ok {
			return "", false
		}
		text, err := field.Text(v)
		return text, err == nil
	case rootLimit:
		return r.perMinute(), true
	}
	if len(values) != 1 || values[0] == "" {
		return "", false
	}
	return values[0], true
}

// parseQuery returns no values of a text that isn't one query in strict form.
func parseQuery(text string) url.Values {
	values, err := url.ParseQuery(text)
	if err != nil {
		return url.Values{}
	}
	return values
}

func (r *Call) json(p Part) ([]byte, bool) {
	if r.strict == nil {
		ok := field.Valid(r.Body) == nil
		r.strict = &ok
	}
	if !*r.strict {
		return nil, false
	}
	v, err := p.path.One(r.Body)
	return v, err == nil
}

// has tells whether a part has the wanted text, see [Handshake].When.
func (r *Call) has(p Part, want string) bool {
	if want == "[]" && p.root == rootBody {
		v, ok := r.json(p)
		if !ok || len(v) == 0 || v[0] != '[' {
			return false
		}
		elements, err := field.Elements(v)
		return err == nil && len(elements) == 0
	}
	text, ok := r.text(p)
	return ok && (want == "*" || text == want)
}

func (r *Call) perMinute() string {
	if r.Limit.Requests < 1 || r.Limit.Per <= 0 {
		return "*"
	}
	return fmt.Sprint(max(1, int64(float64(r.Limit.Requests)*float64(time.Minute)/float64(r.Limit.Per))))
}

// echo returns a part's text as far as an answer may have it in it. Its errors
// don't quote it.
func (r *Call) echo(p Part) (string, error) {
	text, ok := r.text(p)
	switch {
	case !ok:
		return "", fmt.Errorf("%s: %w", p, field.ErrMissing)
	case len(text) > MaxEcho:
		return "", fmt.Errorf("%s: %d bytes, want at most %d", p, len(text), MaxEcho)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "", fmt.Errorf("%s: not printable", p)
	}
	return text, nil
}

// Allow reports why h doesn't let r pass: [ErrNotAllowed], wrapped with the
// reason, where its [Handshake].Check isn't what it has to be. Secrets are
// compared in constant time.
func (h *Handshake) Allow(r *Call) error {
	if h.Check.IsZero() {
		return nil
	}
	if len(h.Secrets)+len(h.Allowed) == 0 {
		return fmt.Errorf("%s: %w: neither secrets nor allowed are configured", h.Check, ErrNotAllowed)
	}
	text, ok := r.text(h.Check)
	if !ok {
		return fmt.Errorf("%s: %w: it isn't there", h.Check, ErrNotAllowed)
	}
	got, equal := sha256.Sum256([]byte(text)), 0
	for _, s := range h.Secrets {
		want := sha256.Sum256([]byte(s.Reveal())) // which hides the length too
		equal |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	if equal == 1 || slices.ContainsFunc(h.Allowed, func(a string) bool { return a == "*" || strings.EqualFold(a, text) }) {
		return nil
	}
	return fmt.Errorf("%s: %w: it is none of those that are configured", h.Check, ErrNotAllowed)
}

// Brought returns the secret that r brings, or "" where there is none, or none
// that could be one.
func (h *Handshake) Brought(r *Call) string {
	if h.Brings.IsZero() {
		return ""
	}
	text, err := r.echo(h.Brings)
	if err != nil {
		return ""
	}
	return text
}

// IsZero reports whether there is nothing to visit.
func (v Visit) IsZero() bool { return v.URL.IsZero() && len(v.Hosts) == 0 }

// Address returns the address that r wants visited, "" where there is none to
// visit, or an error that wraps [ErrNotAllowed] and doesn't quote it.
func (v Visit) Address(r *Call) (string, error) {
	if v.IsZero() {
		return "", nil
	}
	text, err := r.echo(v.URL)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" ||
		!slices.ContainsFunc(v.Hosts, func(h HostPattern) bool { return h.Matches(u.Host) }) {
		return "", fmt.Errorf("%s: %w: no https URL of one of its hosts", v.URL, ErrNotAllowed)
	}
	return u.String(), nil
}

// Response is an answer to a handshake.
type Response struct {
	Answer
	// Header are further headers by name.
	Header map[string]string
}

// Respond returns the answer to r, which was signed with key, or with none. What
// the request says stands in it only as text/plain or in JSON, so that nobody can
// have a page of his own shown under this address. An error says which value
// isn't to be had, and doesn't quote it.
func (h *Handshake) Respond(r *Call, key signature.Key) (Response, error) {
	res := Response{Answer: h.Answer.Answer, Header: make(map[string]string, len(h.Answer.Headers))}
	var err error
	for name, v := range h.Answer.Headers {
		if res.Header[name], err = v.in(r, key); err != nil {
			return Response{}, err
		}
	}
	if !h.Answer.Text.IsZero() {
		res.ContentType = "text/plain; charset=utf-8"
		if res.Body, err = h.Answer.Text.in(r, key); err != nil {
			return Response{}, err
		}
	}
	if len(h.Answer.JSON) == 0 {
		return res, nil
	}
	members := make(map[string]string, len(h.Answer.JSON))
	for name, v := range h.Answer.JSON {
		if members[name], err = v.in(r, key); err != nil {
			return Response{}, err
		}
	}
	body, err := json.Marshal(members) // which escapes < > and & too
	if err != nil {
		return Response{}, err
	}
	res.Body, res.ContentType = string(body), "application/json"
	return res, nil
}

func (v Value) in(r *Call, key signature.Key) (string, error) {
	if v.fixed != "" {
		return v.fixed, nil
	}
	text, err := r.echo(v.from)
	if err != nil || v.mac == nil {
		return text, err
	}
	made := v.mac.Sign(key, []byte(text), "", time.Time{}).Get(macHeader)
	if made == "" {
		return "", fmt.Errorf("hmac of %s: no key", v.from)
	}
	return v.prefix + made, nil
}
