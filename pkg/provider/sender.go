package provider

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// SenderKeys says where a sender's public keys are had that its requests name,
// see sender_key of the scheme. The zero SenderKeys is nowhere.
type SenderKeys struct {
	// Certificates are keys in X.509 certificates, whose URL a request has.
	Certificates *Certificates `yaml:"certificates"`
	// Endpoint answers with a key as a JSON Web Key, whose id a request has.
	Endpoint *KeyEndpoint `yaml:"endpoint"`
}

// Certificates says which certificates are the sender's. Each is verified up to
// a root that the system trusts.
type Certificates struct {
	// URLs are where they may be: https, with a * for letters, digits and hyphens
	// (in the path also underscores) between two dots or slashes. Nothing else is
	// ever called, no matter what a request asks for. Required.
	URLs []URLPattern `yaml:"urls"`
	// Hosts are the names that a certificate may be for, with * likewise. One of
	// them has to be among its own. Required.
	Hosts []HostPattern `yaml:"hosts"`
}

// KeyEndpoint is a path of the source's API that tells a key by its id, to a POST
// with api.headers as credentials.
type KeyEndpoint struct {
	// Path is what is appended to api.base. Required.
	Path string `yaml:"path"`
	// ID is the member of the request's JSON object that takes the id. Required.
	ID string `yaml:"id"`
	// Credentials are the headers that api.headers must have for it. Required.
	Credentials []string `yaml:"credentials"`
	// Key is where in the answer the JSON Web Key is. Required.
	Key KeyPath `yaml:"key"`
	// Expiry is where in the answer the key's end is, in Unix seconds; null is
	// none. Defaults to none.
	Expiry KeyPath `yaml:"expiry"`
	// Unknown is where an answer with status 400 has the code below, if no key has
	// that id. A 404 says the same. Required.
	Unknown KeyPath `yaml:"unknown"`
	// UnknownCode is that code. Required.
	UnknownCode string `yaml:"unknown_code"`
}

// IsZero reports whether there are none.
func (s SenderKeys) IsZero() bool { return s.Certificates == nil && s.Endpoint == nil }

// keyID is what the id of a key looks like: nothing that could mean more to a
// server than itself.
var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// Names reports whether name, as a request has it, can be that of one of the
// sender's keys: only then may it be asked for.
func (s SenderKeys) Names(name string) bool {
	if s.Certificates == nil {
		return s.Endpoint != nil && keyID.MatchString(name)
	}
	for _, u := range s.Certificates.URLs {
		if u.Matches(name) {
			return true
		}
	}
	return false
}

// Validate reports every fault of the section.
func (c *Certificates) Validate(check *config.Check) {
	if len(c.URLs) == 0 {
		check.Missing("urls", "where the certificates are, such as https://keys.*.example.com/*.pem")
	}
	if len(c.Hosts) == 0 {
		check.Missing("hosts", "the names that the certificates are for, such as keys.example.com")
	}
}

// Validate reports every fault of the section.
func (e *KeyEndpoint) Validate(c *config.Check) {
	if !strings.HasPrefix(e.Path, "/") || strings.ContainsAny(e.Path, "?#") {
		c.Fault("path", "", "a path such as /keys/get")
	}
	if len(e.Credentials) == 0 {
		c.Missing("credentials", "the headers with which the API is asked, such as [X-Api-Key]")
	}
	for key, value := range map[string]string{
		"id": e.ID, "key": e.Key.path.String(), "unknown": e.Unknown.path.String(), "unknown_code": e.UnknownCode,
	} {
		if value == "" {
			c.Missing(key, "a value: without it no key can be had, or none be known to be wrong")
		}
	}
}

// validateSenderKeys finds what is wrong with them beside the rest of the source.
func (s *Source) validateSenderKeys(c *config.Check) {
	k := s.SenderKeys
	fetches := s.verifier != nil && s.verifier.FetchesKey()
	switch {
	case k.Certificates != nil && k.Endpoint != nil:
		c.Fault("sender_keys", "", "one of certificates and endpoint")
	case fetches && k.IsZero():
		c.Missing("sender_keys", "where the keys are had that sender_key of the scheme names")
	case s.verifier != nil && !fetches && !k.IsZero():
		c.Fault("sender_keys", "", "nothing here with a scheme whose keys are the secrets")
	case k.Endpoint != nil && s.API.Base == "":
		c.Missing("api.base", "the URL of the API that has the sender's keys")
	case k.Endpoint != nil:
		for _, name := range k.Endpoint.Credentials {
			if !hasHeader(s.API.Headers, name) {
				c.Missing("api.headers", name+" among them, without which no key of the sender's is to be had")
			}
		}
	}
}

func hasHeader(headers map[string]config.Secret, name string) bool {
	for n := range headers {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// URLPattern is a pattern of URLs, see [Certificates].
type URLPattern struct{ pattern *regexp.Regexp }

// Matches reports whether text is such a URL, to the letter: there is one way to
// write each.
func (u URLPattern) Matches(text string) bool {
	return u.pattern != nil && u.pattern.MatchString(text)
}

const (
	anyLabel = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
	anyName  = "[A-Za-z0-9_-]{1,128}"
)

// Forms lists what DecodeNode takes, for the schema of files.
func (URLPattern) Forms() []any { return []any{""} }

// DecodeNode reads the text of a pattern.
func (u *URLPattern) DecodeNode(n config.Node) {
	host, path, ok := strings.Cut(strings.TrimPrefix(n.Text(), "https://"), "/")
	called, err := url.Parse("https://" + strings.ReplaceAll(host, "*", "x") + "/" + strings.ReplaceAll(path, "*", "x"))
	if !ok || !strings.HasPrefix(n.Text(), "https://") || !validPattern(host) || err != nil ||
		called.String() != "https://"+called.Host+called.EscapedPath() || strings.Contains(path, "%") {
		n.Fault("a URL such as https://keys.*.example.com/*.pem")
		return
	}
	u.pattern = regexp.MustCompile("^https://" + expand(host, anyLabel) + "/" + expand(path, anyName) + "$")
}

// HostPattern is a pattern of host names, see [Certificates].
type HostPattern struct{ pattern *regexp.Regexp }

// Matches reports whether name is such a host.
func (h HostPattern) Matches(name string) bool {
	return h.pattern != nil && h.pattern.MatchString(name)
}

// Forms lists what DecodeNode takes, for the schema of files.
func (HostPattern) Forms() []any { return []any{""} }

// DecodeNode reads the text of a pattern.
func (h *HostPattern) DecodeNode(n config.Node) {
	if !validPattern(n.Text()) {
		n.Fault("a host name such as keys.example.com or keys.*.example.com")
		return
	}
	h.pattern = regexp.MustCompile("^" + expand(n.Text(), anyLabel) + "$")
}

// validPattern tells whether host is labels with or without a star, and two
// without at the end: a star there would stand for anybody's domain.
func validPattern(host string) bool {
	labels := strings.Split(host, ".")
	for i, label := range labels {
		foreign := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && (r != '*' || i > len(labels)-3)
		}
		if label == "" || strings.ContainsFunc(label, foreign) {
			return false
		}
	}
	return len(labels) > 1 && len(host) <= 253
}

// expand makes an expression of a pattern.
func expand(pattern, star string) string {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return strings.Join(parts, star)
}

// KeyPath is the path to one value of an answer.
type KeyPath struct{ path field.Path }

// In returns the JSON value there, or an error that wraps [field.ErrMissing].
func (p KeyPath) In(doc []byte) (jsontext.Value, error) { return p.path.One(doc) }

// IsZero reports whether there is no path.
func (p KeyPath) IsZero() bool { return p.path.String() == "" }

// Forms lists what DecodeNode takes, for the schema of files.
func (KeyPath) Forms() []any { return []any{""} }

// DecodeNode reads the text of a path.
func (p *KeyPath) DecodeNode(n config.Node) {
	path, err := field.ParsePath(n.Text())
	if err != nil || path.Many() || n.Text() == "" {
		n.Fault("the path to one value, such as key.expired_at")
		return
	}
	p.path = path
}
