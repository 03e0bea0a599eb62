package account

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
)

// label binds a sealed entry to its account. No source has a dot in its name.
func label(source, account string) string { return "account " + source + "." + account }

// Seal makes of an account's entry, in YAML or JSON, the value that a bucket has
// for it: the entry with each reference replaced by plain: and the secret that
// it stands for, as JSON, sealed under the label "account SOURCE.ACCOUNT". An
// entry is sealed as a whole, so that nobody without the key can make one, read
// one, or pass one off as another account's.
//
// The error is of type [config.Faults] where the entry isn't one; file stands
// for it there. It quotes no secret.
func Seal(box *seal.Box, name string, source provider.Source, account, file string, entry []byte) ([]byte, error) {
	t := newTable(name, source, box, nil)
	refs, err := t.decode(account, text{file: file, data: entry}, &provider.Account{})
	if err != nil {
		return nil, err
	}
	var parsed any
	if err := yaml.Unmarshal(entry, &parsed); err != nil {
		return nil, fmt.Errorf("%s: no YAML", file) // the error's text may quote what is in it
	}
	var value bytes.Buffer
	enc := json.NewEncoder(&value)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(resolve(parsed, refs)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return box.Seal(label(name, account), value.Bytes())
}

// Unseal returns what a bucket has for an account, or an error that wraps
// [seal.ErrSealed] if it was sealed with another key or for another account.
func Unseal(box *seal.Box, name string, source provider.Source, account string, value []byte) (*provider.Account, error) {
	t, a := newTable(name, source, box, nil), &provider.Account{}
	_, err := t.decode(account, text{file: name + "." + account, data: value, sealed: true}, a)
	a.Name = account
	return a, err
}

// resolve returns a copy of v in which each reference has given way to what it
// stands for.
func resolve(v any, refs map[string]config.Secret) any {
	switch v := v.(type) {
	case map[string]any:
		all := make(map[string]any, len(v))
		for key, inner := range v {
			all[key] = resolve(inner, refs)
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i, inner := range v {
			all[i] = resolve(inner, refs)
		}
		return all
	case string:
		if secret, ok := refs[v]; ok {
			return "plain:" + secret.Reveal()
		}
	}
	return v
}
