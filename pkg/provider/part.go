package provider

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/signature"
)

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
