package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/seal"
)

var (
	older = config.NewSecret("an older key, as long as it must be")
	newer = config.NewSecret("a newer key, as long as it must be.")
)

func box(t testing.TB, keys ...config.Secret) *seal.Box {
	t.Helper()
	b, err := seal.New(keys)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealed(t testing.TB, b *seal.Box, label, plain string) []byte {
	t.Helper()
	s, err := b.Seal(label, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOnlyTheRightKeyOpensInTheRightPlace(t *testing.T) {
	t.Parallel()
	value := sealed(t, box(t, older), "tokens/crm", "hunter2")
	changed := bytes.Clone(value)
	changed[len(changed)-1] ^= 1
	for name, tt := range map[string]struct {
		box    *seal.Box
		label  string
		sealed []byte
		want   error
	}{
		"the same key":               {box(t, older), "tokens/crm", value, nil},
		"the second key of several":  {box(t, newer, older), "tokens/crm", value, nil},
		"another key":                {box(t, newer), "tokens/crm", value, seal.ErrSealed},
		"another place":              {box(t, older), "tokens/erp", value, seal.ErrSealed},
		"a changed value":            {box(t, older), "tokens/crm", changed, seal.ErrSealed},
		"a cut value":                {box(t, older), "tokens/crm", value[:20], seal.ErrSealed},
		"nothing":                    {box(t, older), "tokens/crm", nil, seal.ErrSealed},
		"a value that is not sealed": {box(t, older), "tokens/crm", []byte("hunter2"), seal.ErrSealed},
		"another format":             {box(t, older), "tokens/crm", append([]byte{2}, value[1:]...), seal.ErrSealed},
		"no keys":                    {nil, "tokens/crm", value, seal.ErrNoKeys},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, err := tt.box.Open(tt.label, tt.sealed)
			if !errors.Is(err, tt.want) || (err == nil) != (string(plain) == "hunter2") {
				t.Errorf("Open() = %q, %v, want %v", plain, err, tt.want)
			}
		})
	}
}

// Promise 9: what is stored shows neither the secret nor that two are equal.
func TestPromise9SealedValuesShowNothing(t *testing.T) {
	t.Parallel()
	b := box(t, older)
	first, second := sealed(t, b, "k", "hunter2"), sealed(t, b, "k", "hunter2")
	if bytes.Equal(first, second) || bytes.Contains(first, []byte("hunter2")) {
		t.Errorf("sealed twice: %x and %x, want different ones without the secret", first, second)
	}
}

func TestWeakKeysAreRefusedUnseen(t *testing.T) {
	t.Parallel()
	if b, err := seal.New(nil); b != nil || err != nil {
		t.Errorf("New() without keys = %v, %v, want nil", b, err)
	}
	_, err := seal.New([]config.Secret{older, config.NewSecret("hunter2")})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("New() = %v, want an error without the key", err)
	}
	if _, err := (*seal.Box)(nil).Seal("k", nil); !errors.Is(err, seal.ErrNoKeys) {
		t.Errorf("Seal() without keys = %v, want ErrNoKeys", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{1})
	f.Add(sealed(f, box(f, older), "other", "x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if plain, err := box(t, older).Open("label", value); err == nil {
			t.Errorf("Open(%x) = %q, which nobody sealed", value, plain)
		}
	})
}

func ExampleBox() {
	b, err := seal.New([]config.Secret{config.NewSecret("rL0w0pXGZbq9vQyQ0H0q3m0c4tqk7U0f")})
	if err != nil {
		fmt.Println(err)
		return
	}
	value, _ := b.Seal("tercel_tokens/crm", []byte("refresh token"))
	plain, _ := b.Open("tercel_tokens/crm", value)
	_, err = b.Open("tercel_tokens/erp", value)
	fmt.Printf("%s, %v\n", plain, err)
	// Output: refresh token, sealed with another key, for another place, or changed
}
