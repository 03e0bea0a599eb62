package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/field"
)

// MaxEcho is the largest value of a request that an answer has in it, and the
// largest body of an unsigned handshake, in bytes.
const MaxEcho = 4 << 10

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
