package signature

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/field"
)

// place is where a request has a value.
type place struct {
	kind placeKind
	name string     // of the header, canonical, or of the form's field
	path field.Path // in a JSON body
	// only are arrays on the way that must have one element: in a second one,
	// which nobody signed, there could be anything.
	only []field.Path
}

type placeKind uint8

const (
	nowhere placeKind = iota
	inHeader
	inJSON
	inForm
)

const (
	jsonPrefix = "body."
	formPrefix = "form."
)

func isBodyPlace(text string) bool {
	return strings.HasPrefix(text, jsonPrefix) || strings.HasPrefix(text, formPrefix)
}

// parsePlace reads body.path, form.name or the name of a header, which
// checkHeaders has looked at.
func parsePlace(faults *Faults, key, text string) place {
	switch {
	case text == "":
		return place{}
	case strings.HasPrefix(text, jsonPrefix):
		p, ok := jsonPlace(text[len(jsonPrefix):])
		if !ok {
			faults.add(key, text, "body. and the path to one value")
		}
		return p
	case strings.HasPrefix(text, formPrefix) && text != formPrefix:
		return place{kind: inForm, name: text[len(formPrefix):]}
	}
	return place{kind: inHeader, name: canonical(text)}
}

// jsonPlace reads the path to one value in a JSON body.
func jsonPlace(text string) (place, bool) {
	path, err := field.ParsePath(text)
	if err != nil || path.Many() || text == "" || text == "$" {
		return place{}, false
	}
	p := place{kind: inJSON, path: path}
	parts := strings.Split(text, ".")
	for i, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 31); err != nil || i == 0 {
			continue
		}
		array, err := field.ParsePath(strings.Join(parts[:i], "."))
		if err != nil {
			return place{}, false
		}
		p.only = append(p.only, array)
	}
	return p, true
}

// read returns the value at p, which must be there once and not be empty.
func (m *message) read(step string, p place) (string, *Error) {
	switch p.kind {
	case inJSON:
		value, err := m.json(step, p)
		if err == nil && value == "" {
			return "", &Error{step, "no " + jsonPrefix + p.path.String(), ErrMissing}
		}
		return value, err
	case inForm:
		return m.formValue(step, p.name)
	case inHeader:
		return m.request.single(step, p.name)
	}
	return "", &Error{step, "nothing to read", ErrMissing}
}

// line returns the string at a path of the body, and whether there is one. Null
// is none, and an empty string is one.
func (m *message) line(p place) (string, bool, *Error) {
	if err := m.needJSON(StepSigned); err != nil {
		return "", false, err
	}
	found, err := p.path.One(m.request.Body)
	if err != nil || found.Kind() == 'n' {
		return "", false, nil // the document is valid: there is no value
	}
	text, err := field.Text(found)
	if found.Kind() != '"' || err != nil && !errors.Is(err, field.ErrMissing) {
		return "", false, &Error{StepSigned, jsonPrefix + p.path.String() + " is no text", ErrMalformed}
	}
	return text, true, nil
}

// needJSON wants the body to be strict JSON: of a doubled name, two readers
// could take two different values.
func (m *message) needJSON(step string) *Error {
	if m.validJSON {
		return nil
	}
	if err := field.Valid(m.request.Body); err != nil {
		return &Error{step, err.Error(), ErrMalformed}
	}
	m.validJSON = true
	return nil
}

// json returns the text at a path of the body, or "" where there is none.
func (m *message) json(step string, p place) (string, *Error) {
	if err := m.needJSON(step); err != nil {
		return "", err
	}
	for _, array := range p.only {
		if found, err := array.One(m.request.Body); err == nil {
			if elements, err := field.Elements(found); err == nil && len(elements) != 1 {
				return "", &Error{step, fmt.Sprintf("%d elements in %s, want one, since only one is signed", len(elements), array), ErrMalformed}
			}
		}
	}
	found, err := p.path.One(m.request.Body)
	if err != nil {
		return "", nil // the document is valid: there is no value
	}
	text, err := field.Text(found)
	switch {
	case err != nil && found.Kind() != '{' && found.Kind() != '[':
		return "", nil // null or ""
	case err != nil:
		return "", &Error{step, jsonPrefix + p.path.String() + " is no text or number", ErrMalformed}
	}
	return text, nil
}

// maxFields bounds a form.
const maxFields = 1000

const formType = "application/x-www-form-urlencoded"

// isForm tells whether the body says that it is a form.
func (m *message) isForm() bool {
	types := m.request.Header["Content-Type"]
	if len(types) != 1 {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(types[0])
	return err == nil && mediaType == formType
}

// readForm parses a form once.
func (m *message) readForm(step string) *Error {
	if m.form != nil {
		return nil
	}
	if !m.isForm() {
		return &Error{step, "the content type is not " + formType, ErrMalformed}
	}
	body := string(m.request.Body)
	if strings.Count(body, "&") >= maxFields {
		return &Error{step, fmt.Sprintf("a form of more than %d fields", maxFields), ErrMalformed}
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		return &Error{step, "the body is no form", ErrMalformed} // the error would quote it
	}
	m.form = form
	return nil
}

func (m *message) formValue(step, name string) (string, *Error) {
	if err := m.readForm(step); err != nil {
		return "", err
	}
	switch values := m.form[name]; {
	case len(values) > 1:
		return "", &Error{step, fmt.Sprintf("%d of form.%s", len(values), name), ErrRepeated}
	case len(values) == 0 || values[0] == "":
		return "", &Error{step, "no form." + name, ErrMissing}
	default:
		return values[0], nil
	}
}

// at reads a timestamp, as RFC 3339 writes it or as at most 13 digits without a leading zero, sign, point
// or space, so that there is one way to write a time and no overflow.
func (u Unit) at(text string) (time.Time, bool) {
	if u == RFC3339 {
		t, err := time.Parse(time.RFC3339Nano, text)
		return t, err == nil && len(text) <= 64
	}
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
