package provider

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/signature"
)

// Handshakes are a source's handshakes by name. Where several apply to a
// request, the first by name counts. What the pipeline file says of one is laid
// over the preset's, key by key; "off" in its place removes it.
type Handshakes map[string]Handshake

// Handshake is a request with which a provider proves or tests an address. It is
// answered as it says here and never stored: it is no event.
type Handshake struct {
	// Method is what the request is made with. Defaults to POST.
	Method Method `yaml:"method"`
	// When tells handshakes from events: parts of the request, and the text that
	// each of them has to have; "*" is any, and "[]" an empty array in the body.
	// Parts are header.NAME, query.NAME, form.NAME and body.path. Required.
	When map[string]string `yaml:"when"`
	// Unsigned says that the provider doesn't sign it, so that anybody can make
	// one: it is answered without a look at the signature, and its body can't be
	// larger than [MaxEcho]. Others pass the source's verification first; without
	// a body, their query is signed in its place. Defaults to false.
	Unsigned bool `yaml:"unsigned"`
	// Check is the part of the request that has to be one of Secrets or Allowed;
	// while there are none, every such request is refused. Defaults to none.
	Check Part `yaml:"check"`
	// Secrets are what Check may be, such as a token that the provider was given
	// for this purpose.
	Secrets []config.Secret `yaml:"secrets"`
	// Allowed are what Check may be where it is no secret, such as names of hosts;
	// case doesn't matter, and "*" is any.
	Allowed []string `yaml:"allowed"`
	// Brings is the part of the request that is a secret of the provider's making,
	// which the operator needs. It is never logged. Defaults to none.
	Brings Part `yaml:"brings"`
	// SaveTo is the path of a file that Brings is written to, readable by this
	// user alone, unless the file is there. Anybody can make such a request, so
	// that what is in the file has to be confirmed by the provider before it is
	// made one of the source's secrets. Defaults to nowhere.
	SaveTo string `yaml:"save_to"`
	// Visit is an address that has to be called before the answer, as the provider
	// wants it for a proof. Only for handshakes that are signed. Defaults to none.
	Visit Visit `yaml:"visit"`
	// Answer is what the provider wants to hear. Defaults to a bare 200.
	Answer HandshakeAnswer `yaml:"answer"`

	off        bool
	conditions []condition
}

// Visit is an address in a handshake that is called with GET, and has to answer
// with status 200.
type Visit struct {
	// URL is the part of the request that has it: an https URL. Required.
	URL Part `yaml:"url"`
	// Hosts are the hosts that it may lead to; a * in one stands for letters,
	// digits and hyphens between two dots. Required.
	Hosts []HostPattern `yaml:"hosts"`
}

// Method is a method of HTTP that handshakes are made with.
type Method string

// Values lists what a Method can be.
func (Method) Values() []string {
	return []string{http.MethodGet, http.MethodOptions, http.MethodPost}
}

// HandshakeAnswer is an answer with values from the request in it. It has one
// of Body, Text and JSON, or no body.
type HandshakeAnswer struct {
	Answer `yaml:",inline"`
	// Headers are further headers by name.
	Headers map[string]Value `yaml:"headers"`
	// Text is a value that is the whole body, as text/plain.
	Text Value `yaml:"text"`
	// JSON are the members of an object that is the body: texts.
	JSON map[string]Value `yaml:"json"`
}

// condition is one entry of [Handshake].When.
type condition struct {
	part Part
	want string
}

// handshakeOff is the form of a [Handshake] that takes away the preset's.
type handshakeOff string

// Values lists the one word, for configuration errors.
func (handshakeOff) Values() []string { return []string{"off"} }

// Forms lists what DecodeNode takes, for the schema of files.
func (Handshake) Forms() []any { return []any{handshakeOff(""), Handshake{}} }

// DecodeNode reads "off" or the mapping.
func (h *Handshake) DecodeNode(n config.Node) {
	if h.off = n.Kind() == config.Scalar && n.Text() == "off"; !h.off {
		n.Decode(h)
	}
}

// Validate reports every fault of the handshake and makes it ready for use.
func (h *Handshake) Validate(c *config.Check) {
	if h.off {
		return
	}
	if h.Method == "" {
		h.Method = http.MethodPost
	}
	h.validateWhen(c)
	if h.Check.IsZero() && len(h.Secrets)+len(h.Allowed) > 0 {
		c.Missing("check", "the part of the request that has to be one of these, such as query.token")
	}
	if h.Check.root == rootLimit || h.Brings.root == rootLimit {
		c.Fault("", rootLimit, wantPart)
	}
	if h.SaveTo != "" && (h.Brings.IsZero() || !filepath.IsAbs(h.SaveTo)) {
		c.Fault("save_to", "", "an absolute path, and brings")
	}
	if !h.Visit.IsZero() && (h.Unsigned || h.Visit.URL.IsZero() || len(h.Visit.Hosts) == 0) {
		c.Fault("visit", "", "{url: a part such as body.url, hosts: the hosts that it may lead to}, in a handshake that is signed")
	}
	h.validateParts(c)
	h.Answer.validate(c)
	if h.Unsigned && h.Answer.signs() {
		c.Fault("unsigned", "", "false beside an hmac: otherwise anybody could have anything signed with the secret")
	}
}

func (h *Handshake) validateWhen(c *config.Check) {
	h.conditions = nil
	for _, key := range slices.Sorted(maps.Keys(h.When)) {
		part, err := ParsePart(key)
		switch {
		case err != nil || part.root == rootLimit:
			c.Fault("when."+key, "", wantPart)
		case h.When[key] == "":
			c.Fault("when."+key, "", `the text that it has to have, or "*" for any`)
		default:
			h.conditions = append(h.conditions, condition{part, h.When[key]})
		}
	}
	if len(h.When) == 0 {
		c.Missing("when", `what tells handshakes from events, such as {query.challenge: "*"}`)
	}
}

// validateParts finds parts that a request of that method doesn't have.
func (h *Handshake) validateParts(c *config.Check) {
	if h.Method == http.MethodPost {
		return
	}
	for p := range h.parts() {
		if p.root == rootBody || p.root == rootForm {
			c.Fault("", p.String(), fmt.Sprintf("parts in header and query alone: with %s there is no body", h.Method))
		}
	}
}

// parts yields every part of the request that h looks at.
func (h *Handshake) parts() func(func(Part) bool) {
	var all []Part
	for _, cond := range h.conditions {
		all = append(all, cond.part)
	}
	all = append(all, h.Check, h.Brings, h.Visit.URL, h.Answer.Text.from)
	for _, values := range []map[string]Value{h.Answer.JSON, h.Answer.Headers} {
		for _, v := range values {
			all = append(all, v.from)
		}
	}
	return slices.Values(all)
}

// headerName is what a header of an answer may be called (RFC 9110, section 5.6.2).
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")

// framing are headers that say where an answer ends or what its body is: ours
// to say.
var framing = []string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Trailer", "Transfer-Encoding", "X-Content-Type-Options"}

func (a *HandshakeAnswer) validate(c *config.Check) {
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	if a.Status < 200 || a.Status > 299 {
		c.Fault("answer.status", "", "200 to 299")
	}
	bodies := 0
	for _, has := range []bool{a.Body != "", !a.Text.IsZero(), len(a.JSON) > 0} {
		if has {
			bodies++
		}
	}
	if bodies > 1 || bodies > 0 && a.Status == http.StatusNoContent {
		c.Fault("answer", "", "at most one of body, text and json, and none with status 204")
	}
	if a.Body != "" && a.ContentType == "" {
		a.ContentType = "text/plain"
	}
	for name := range a.Headers {
		if !headerName.MatchString(name) || slices.Contains(framing, http.CanonicalHeaderKey(name)) {
			c.Fault("answer.headers."+name, "", "a header that isn't one of "+strings.Join(framing, ", "))
		}
	}
}

// signs tells whether a value is made with the source's secret.
func (a *HandshakeAnswer) signs() bool {
	if a.Text.mac != nil {
		return true
	}
	for _, values := range []map[string]Value{a.JSON, a.Headers} {
		for _, v := range values {
			if v.mac != nil {
				return true
			}
		}
	}
	return false
}

// validateHandshakes finds what is wrong with handshakes beside the rest of the
// source.
func (s *Source) validateHandshakes(c *config.Check) {
	for name, h := range s.Handshakes {
		key := "handshakes." + name
		if !Name.MatchString(name) {
			c.Fault(key, "", "a name of lower-case letters, digits, - and _")
		}
		if h.off {
			continue
		}
		if h.Answer.signs() && s.Verify.Algorithm != signature.HMACSHA256 {
			c.Fault(key+".answer", "", "no hmac, whose key is that of the scheme hmac-sha256, which the source doesn't have")
		}
		for _, secret := range s.Secrets {
			if path, ok := strings.CutPrefix(secret.Ref(), "file:"); ok && h.SaveTo != "" && filepath.Clean(path) == filepath.Clean(h.SaveTo) {
				c.Fault(key+".save_to", "", "another file than that of secrets: whoever calls first would choose the secret")
			}
		}
	}
}

// Each returns the handshakes that can apply to a request of that method, in
// the order in which they are tried: those that must be signed, or the others.
func (hs Handshakes) Each(method string, unsigned bool) []NamedHandshake {
	var all []NamedHandshake
	for _, name := range slices.Sorted(maps.Keys(hs)) {
		if h := hs[name]; !h.off && string(h.Method) == method && h.Unsigned == unsigned {
			all = append(all, NamedHandshake{name, h})
		}
	}
	return all
}

// Visits reports whether one of them has an address that is called.
func (hs Handshakes) Visits() bool {
	for _, h := range hs {
		if !h.off && !h.Visit.IsZero() {
			return true
		}
	}
	return false
}

// NamedHandshake is an entry of [Handshakes].
type NamedHandshake struct {
	// Name is its name.
	Name string
	Handshake
}

// TakesForm reports whether the request can be a form, whatever
// [Request].ContentTypes say of events.
func (h *Handshake) TakesForm() bool {
	return slices.ContainsFunc(h.conditions, func(c condition) bool { return c.part.root == rootForm })
}

// Applies reports whether r is such a request: all of [Handshake].When is true.
func (h *Handshake) Applies(r *Call) bool {
	if len(h.conditions) == 0 || h.Unsigned && len(r.Body) > MaxEcho {
		return false
	}
	return !slices.ContainsFunc(h.conditions, func(c condition) bool { return !r.has(c.part, c.want) })
}
