package provider

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
)

// SchemaMode is what becomes of an event that doesn't match its schema.
type SchemaMode string

// The modes.
const (
	// SchemaWarn stores, counts and, once a minute, logs it.
	SchemaWarn SchemaMode = "warn"
	// SchemaEnforce refuses its request.
	SchemaEnforce SchemaMode = "enforce"
)

// Values lists the modes, for configuration errors.
func (SchemaMode) Values() []string { return []string{string(SchemaWarn), string(SchemaEnforce)} }

// Schemas are JSON Schemas of events by patterns of their type: a mapping to
// files, whose paths begin at the pipeline file. "*" stands for one
// dot-separated part of a type, ">" for the rest. An event is held against each
// that matches its type. They are read with the pipeline file, and refer to
// other files only; nothing is got from a network.
type Schemas struct{ rules []schemaRule }

type schemaRule struct {
	pattern string
	schema  *jsonschema.Schema
}

// Forms lists what DecodeNode takes, for the schema of files.
func (Schemas) Forms() []any { return []any{map[string]string{}} }

// DecodeNode reads the mapping, and the files that it names.
func (s *Schemas) DecodeNode(n config.Node) {
	files := map[string]string{}
	if !n.Decode(&files) {
		return
	}
	s.rules = nil
	for _, pattern := range n.Keys() {
		child, _ := n.Child(pattern)
		schema, err := compileSchema(filepath.Join(n.Dir(), child.Text()), child.Text())
		if err != nil {
			child.Fault("a JSON Schema file (" + err.Error() + ")")
			continue
		}
		s.rules = append(s.rules, schemaRule{pattern, schema})
	}
}

// compileSchema reads the schema at path, or at name where that is absolute.
func compileSchema(path, name string) (*jsonschema.Schema, error) {
	if filepath.IsAbs(name) {
		path = name
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{"file": jsonschema.FileLoader{}})
	return c.Compile((&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String())
}

// IsZero reports whether there is no schema.
func (s Schemas) IsZero() bool { return len(s.rules) == 0 }

// Violation is where an event doesn't match its schema. It holds no value.
type Violation struct {
	// Pattern is the one whose schema it is.
	Pattern string
	// At is where in the event, as a JSON Pointer of at most 200 bytes.
	At string
	// Keyword is what the schema says there, such as required.
	Keyword string
}

// String gives the violation as a phrase.
func (v Violation) String() string {
	return fmt.Sprintf("schema of %s: %s at %s", v.Pattern, v.Keyword, strconv.Quote(v.At))
}

// Check holds an event of that type against the schemas. It returns the first
// violation, if there is one. Body must be JSON.
func (s Schemas) Check(typ string, body []byte) (v Violation, violated bool) {
	var doc any
	read := false
	for _, r := range s.rules {
		if !event.Match(r.pattern, typ) {
			continue
		}
		if !read {
			var err error
			if doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(body)); err != nil {
				return Violation{r.pattern, "", "JSON"}, true
			}
			read = true
		}
		if err := r.schema.Validate(doc); err != nil {
			return violation(r.pattern, err), true
		}
	}
	return Violation{}, false
}

// maxPointer bounds what is told of a place: its names are the sender's.
const maxPointer = 200

// violation tells the innermost of the first causes.
func violation(pattern string, err error) Violation {
	v := Violation{Pattern: pattern}
	var failed *jsonschema.ValidationError
	if !errors.As(err, &failed) {
		return v
	}
	for len(failed.Causes) > 0 {
		failed = failed.Causes[0]
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, name := range failed.InstanceLocation {
		v.At += "/" + escape.Replace(name)
	}
	if len(v.At) > maxPointer {
		v.At = strings.ToValidUTF8(v.At[:maxPointer], "")
	}
	v.Keyword = strings.Join(slices.Clone(failed.ErrorKind.KeywordPath()), "/")
	return v
}
