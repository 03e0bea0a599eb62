package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tercelhq/tercel/services/internal/fileschema"
)

// The schemas that programs have inside are those of the types as they are.
func TestSchemasAreUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	names := fileschema.Names()
	if len(names) != len(kinds) {
		t.Errorf("schemas %v, want %d", names, len(kinds))
	}
	for name := range kinds {
		want, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := fileschema.Of(name); string(got) != string(want) {
			t.Errorf("%s.json is out of date; run scripts/generate", name)
		}
	}
}
