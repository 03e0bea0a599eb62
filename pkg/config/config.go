package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

const (
	maxSize  = 1 << 20 // bytes of one file
	maxDepth = 64      // collections inside collections

	// The YAML parser takes time in the square of the number of tokens: about
	// a second for this many.
	maxTokens = 1 << 16
)

// An Option changes how [Load] and [Decode] work.
type Option func(*decoder)

// WithLookupEnv makes env: references look up variables with f instead of
// [os.LookupEnv].
func WithLookupEnv(f func(name string) (value string, ok bool)) Option {
	return func(d *decoder) { d.lookupEnv = f }
}

// WithPlain makes a [Secret] take plain:TEXT, which is the secret itself, and
// nothing else: for documents that are sealed as a whole, whose writer must not
// choose what this process reads.
func WithPlain() Option { return func(d *decoder) { d.plainSecrets = true } }

// WithReferences calls seen with each reference of a [Secret] and what it stands
// for, a zero Secret where that can't be read.
func WithReferences(seen func(ref string, s Secret)) Option {
	return func(d *decoder) { d.seen = seen }
}

// Load reads the YAML file at path, at most 1 MiB, and decodes it as [Decode]
// does. An error that is not [Faults] says why the file could not be read and
// what to do about it, and wraps its cause.
func Load(path string, into any, opts ...Option) error {
	f, err := os.Open(path)
	if err != nil {
		return readError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return readError(path, err)
	}
	return Decode(path, data, into, opts...)
}

// readError names the file once, and the way out.
func readError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	advice := "check that the path names a readable file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = "check the path, or write the file first"
	case errors.Is(err, fs.ErrPermission):
		advice = "give this user permission to read it"
	}
	return fmt.Errorf("read %q: %w; %s", path, err, advice)
}

// Decode decodes the YAML document data, at most 1 MiB of UTF-8, into the
// value that into points to; name stands for the file in faults. It goes on
// after a fault and returns all of them as [Faults]; into then holds whatever
// could be decoded. Any other error means that into is of a type that cannot
// be decoded, which is a mistake in the program and not in the file.
func Decode(name string, data []byte, into any, opts ...Option) error {
	d := &decoder{file: name, lookupEnv: os.LookupEnv, secret: map[ast.Node]bool{}}
	for _, o := range opts {
		o(d)
	}
	target := reflect.ValueOf(into)
	if err := checkTarget(target); err != nil {
		return fmt.Errorf("decode %s: %w", name, err)
	}
	if root, ok := d.parse(data); ok {
		d.value(Node{d: d, n: root}, target.Elem())
	}
	if d.misuse != nil {
		return fmt.Errorf("decode %s: %w", name, d.misuse)
	}
	return d.faults.sorted()
}
