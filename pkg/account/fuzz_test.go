package account_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/account"
)

// Whatever is in a file of accounts, reading it ends, no entry that can't be
// used lets anybody in, and what is wrong with one shows none of its secrets.
func FuzzAccountsFile(f *testing.F) {
	for _, text := range []string{
		"", "north: {}\n", "north:\n  secrets: [env:S]\n\"south.2\": {disabled: true}\n", "---\n# x\n'a': {api: {token: env:S}}\n",
		"a: {\n}\nb: {}\n", "a: {}\na: {}\n", "a:\n\tb: c\n", "a: |\n  text\nb: \"open\n  text\"\n", "12: {}\n~: {}\nnull: {}\n? a\n: b\n",
		"\ufeffa: {}\r\nb: {}\r\n", "a: &x {}\nb: *x\n", "a: {secrets: [hunter2hunter2hunter2]}\n", "- a\n", "{a: {}}\n", "a:b: {}\n", "\xff: {}\n",
	} {
		f.Add([]byte(text))
	}
	src := source(f, "{file: accounts.yaml}")
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, splitErr := account.Split(data)
		own := src
		own.Accounts.File = write(t, filepath.Join(t.TempDir(), "accounts.yaml"), string(data))
		table, faults, err := account.Read("orders", own, nil)
		if (err == nil) != (splitErr == nil) {
			t.Fatalf("Read() = %v, entries: %v", err, splitErr)
		}
		if err != nil {
			return
		}
		n := 0
		for name, a := range table.All() {
			n++
			if _, ok := entries[name]; !ok {
				t.Errorf("account %q is in no entry", name)
			}
			if a != nil && len(a.Secrets) != len(a.Keys()) {
				t.Errorf("account %q: %d secrets, %d keys", name, len(a.Secrets), len(a.Keys()))
			}
		}
		if n != len(entries) {
			t.Errorf("%d accounts of %d entries", n, len(entries))
		}
		if broken := table.Count().Broken; (broken == 0) != (len(faults) == 0) {
			t.Errorf("%d broken accounts, faults: %v", broken, faults)
		}
		if strings.Contains(faults.Error(), "hunter2hunter2") && strings.Contains(string(data), "secrets: [hunter2hunter2") {
			t.Errorf("faults show a secret: %v", faults)
		}
	})
}

// Nothing that was put into a bucket by somebody without the key is an account.
func FuzzUnseal(f *testing.F) {
	b := box(f)
	src := source(f, inBucket)
	good, err := account.Seal(b, "orders", src, "other", "entry", []byte("{}"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if a, err := account.Unseal(b, "orders", src, "north", value); err == nil {
			t.Errorf("Unseal() = %+v, which nobody sealed", a)
		}
	})
}
