package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	redacted      = "[redacted]"
	maxSecretSize = 64 << 10 // bytes; a private key is a few thousand
	wantReference = "a reference, env:NAME or file:/path, instead of the secret itself"
	wantPlain     = "plain: and the secret itself: this document is sealed"
)

// A Secret is a value that is never printed. A configuration file gives it by
// reference: env:NAME for a variable of the environment, file:/path for a
// file of at most 64 KiB, whose trailing line break is dropped. References
// are resolved while decoding; an empty value is a fault. See [WithPlain] for
// another form.
//
// Formatting, JSON, text encodings and slog all show "[redacted]".
type Secret struct {
	// A pointer to a string, because fmt doesn't call the methods of
	// unexported fields but prints what they hold, and of such a pointer only
	// the address, whatever the verb. (It follows a pointer to a struct.)
	value *string
	ref   string
}

// NewSecret returns a secret made in code rather than read from a file.
func NewSecret(value string) Secret { return Secret{value: &value} }

// Reveal returns the value; "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Ref returns the reference that the value came from, such as "env:API_KEY",
// or "" for one that came from none.
func (s Secret) Ref() string { return s.ref }

// IsZero reports whether s has no value.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretValue resolves the reference in n. A text that is no reference may be
// the secret itself and is not shown; a proper reference is.
func (d *decoder) secretValue(n Node, s *Secret) {
	if n.Kind() != Scalar {
		n.Fault(wantReference)
		return
	}
	ref := n.Text()
	if d.plainSecrets {
		text, ok := strings.CutPrefix(ref, "plain:")
		if !ok || strings.TrimSpace(text) == "" {
			n.Fault(wantPlain)
			return
		}
		s.value, s.ref = &text, ""
		return
	}
	var value, fault string
	if name, ok := strings.CutPrefix(ref, "env:"); ok && envName.MatchString(name) {
		if value, ok = d.lookupEnv(name); !ok {
			fault = "that is not set"
		}
	} else if path, ok := strings.CutPrefix(ref, "file:"); ok && filepath.IsAbs(path) {
		value, fault = secretFile(path)
	} else {
		n.Fault(wantReference)
		return
	}
	if fault == "" && strings.TrimSpace(value) == "" {
		fault = "that is empty"
	}
	if fault != "" {
		d.fault(n, Fault{Found: quote(ref) + " " + fault, Want: "the name of a secret that has a value"})
	} else {
		s.value, s.ref = &value, ref
	}
	if d.seen != nil {
		d.seen(ref, *s)
	}
}

// secretFile reads a secret, or says in a relative clause why it can't.
func secretFile(path string) (value, fault string) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return "", "that is not a regular file" // reading a pipe could wait for ever
	}
	var data []byte
	if err == nil && info.Size() <= maxSecretSize {
		data, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "that does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "", "that this user may not read"
	case err != nil:
		return "", "that cannot be read"
	case info.Size() > maxSecretSize:
		return "", "that is larger than 64 KiB"
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), ""
}
