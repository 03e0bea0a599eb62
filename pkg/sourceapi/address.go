package sourceapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tercelhq/tercel/pkg/provider"
)

// maxAddress bounds a URL, in bytes.
const maxAddress = 16 << 10

// address appends path to the base. Whatever path holds, the result has the
// base's scheme and host and doesn't climb out of the base's path, not even
// for a server that unescapes before it resolves dots.
func (c *Client) address(path string, query url.Values) (*url.URL, error) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "#") || len(path) > maxAddress {
		return nil, errors.New("path: want one that begins with a slash, has no # and is not over-long")
	}
	u, err := url.Parse(c.base + path)
	if err != nil { // its text would quote the query
		return nil, errors.New("path: not valid in a URL")
	}
	if u.Scheme != c.origin.Scheme || u.Host != c.origin.Host || u.User != nil {
		return nil, errors.New("path: leaves the API's host")
	}
	for _, part := range strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == "." || part == ".." {
			return nil, errors.New("path: has a dot segment")
		}
	}
	if len(query) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	}
	if len(u.RawQuery) > maxAddress {
		return nil, errors.New("query: over-long")
	}
	return u, nil
}

// shown is an address in an error text: its path, cut, and never its query.
func shown(u *url.URL) string {
	p := u.EscapedPath()
	if len(p) > 256 {
		return p[:256] + "…"
	}
	return p
}

const maxRedirects = 5

var (
	errElsewhere = errors.New("redirect to another host, scheme or port")
	errEndless   = fmt.Errorf("more than %d redirects", maxRedirects)
)

// redirect follows only within the API's host: elsewhere the credentials must
// not go, and an answer from elsewhere is nobody's record.
func (c *Client) redirect(next *http.Request, via []*http.Request) error {
	if !provider.SameOrigin(next.URL, c.origin) || next.URL.User != nil {
		return errElsewhere
	}
	if len(via) > maxRedirects {
		return errEndless
	}
	return nil
}
