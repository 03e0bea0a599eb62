package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// caseFile is a file with tests of a pipeline file.
type caseFile struct {
	// Tests are run in their order. Required.
	Tests []testCase `yaml:"tests"`
}

// Validate reports a file without tests.
func (f *caseFile) Validate(c *config.Check) {
	if len(f.Tests) == 0 {
		c.Missing("tests", "a list of tests")
	}
}

// testCase is one webhook and what is to become of it.
type testCase struct {
	// Name says what it shows. Required.
	Name string `yaml:"name"`
	// Source is the source that the webhook comes from. Required.
	Source string `yaml:"source"`
	// Request is a file with a captured HTTP request, beside the test file. Its
	// signature is checked, unless Unsigned says otherwise.
	Request string `yaml:"request"`
	// Unsigned says that the signature isn't looked at. Defaults to false.
	Unsigned bool `yaml:"unsigned"`
	// At is when the webhook comes. Defaults to now.
	At moment `yaml:"at"`
	// Body is the webhook's body instead of a request: any value, or JSON as a
	// text, which then stays as it is spelled. Nothing of it is signed.
	Body jsonValue `yaml:"body"`
	// Type is the event type, instead of what the webhook says.
	Type string `yaml:"type"`
	// Headers are those of a webhook given by its body.
	Headers map[string]string `yaml:"headers"`
	// Account is the account that a webhook given by its body names.
	Account string `yaml:"account"`
	// Records are the API's answers by path, such as /orders/7; null is a 404.
	Records map[string]jsonValue `yaml:"records"`
	// Expect is what "tercel try --json" gives, as far as it matters here. Required.
	Expect jsonValue `yaml:"expect"`
}

// Validate reports what is missing.
func (t *testCase) Validate(c *config.Check) {
	if t.Name == "" {
		c.Missing("name", "what the test shows")
	}
	if t.Source == "" {
		c.Missing("source", "the source that the webhook comes from")
	}
	if (t.Request == "") == !t.Body.given {
		c.Fault("", "", "either request or body")
	}
	if t.Request != "" && (t.Account != "" || len(t.Headers) > 0) {
		c.Fault("", "", "no headers and no account beside a request, which has its own")
	}
	const wanted = "a mapping such as {type: order.paid, destinations: {crm: {delivered: true}}}"
	switch {
	case !t.Expect.given:
		c.Missing("expect", wanted)
	case len(t.Expect.text) > 0 && t.Expect.text[0] != '{':
		c.Fault("expect", "", wanted)
	}
}

// sample is the webhook. Files are found in dir.
func (t *testCase) sample(dir string, file *pipeline.File) (sample, error) {
	s := sample{source: t.Source, at: time.Time(t.At), unsigned: t.Unsigned || t.Body.given, typ: t.Type}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	given := &answers{byPath: map[string][]byte{}, at: s.at}
	for path, v := range t.Records {
		if given.byPath[path] = v.text; string(v.text) == "null" {
			given.byPath[path] = nil
		}
	}
	s.api = given
	var err error
	if t.Request != "" {
		s.raw, err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(t.Request)))
		return s, err
	}
	if s.raw, err = bodyRequest(t.Source, t.Account, t.Headers, t.Body.text); err == nil {
		s.noID = lacksID(file.Sources[t.Source], s.raw)
	}
	return s, err
}

// run returns what differs from what is expected.
func (t *testCase) run(a *app, dir string, file *pipeline.File) ([]string, error) {
	s, err := t.sample(dir, file)
	if err != nil {
		return nil, err
	}
	got, err := s.try(a.ctx, file)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(got)
	if err != nil {
		return nil, err
	}
	result, err := decodeExact(text)
	if err != nil {
		return nil, err
	}
	want, err := decodeExact(t.Expect.text)
	if err != nil {
		return nil, err
	}
	return differences("", want, result), nil
}

// jsonValue is any value, or its JSON as a text.
type jsonValue struct {
	text  []byte // nil where the file has no such value
	given bool   // the file has something
}

// DecodeNode reads a value.
func (v *jsonValue) DecodeNode(n config.Node) {
	v.given = true
	if text := []byte(n.Text()); n.Kind() == config.Scalar && field.Valid(text) == nil {
		v.text = text
		return
	}
	v.text, _ = n.JSON()
}

// moment is a time.
type moment time.Time

// DecodeNode reads a time of RFC 3339.
func (m *moment) DecodeNode(n config.Node) {
	t, err := time.Parse(time.RFC3339Nano, n.Text())
	if err != nil {
		n.Fault("a time such as 2026-03-01T12:00:00Z")
	}
	*m = moment(t)
}
