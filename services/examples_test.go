package services_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/pipeline"
)

// Every example is a pipeline file that the services take. Its secrets are put
// where it looks for them.
func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	files = append(files, "../deploy/compose/tercel.yaml")
	dir := t.TempDir()
	value := func(ref string) string { // of each its own: two tokens must not be the same
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("secret of enough length of "+ref))
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".test.yaml") {
			continue // tests of one, which the command line's own tests run
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" ,[]{}\n\"", r) })
			for _, w := range words {
				if name, ok := strings.CutPrefix(w, "env:"); ok {
					t.Setenv(name, value(name))
				}
			}
			var pairs []string
			for _, w := range words {
				if name, ok := strings.CutPrefix(w, "file:/run/secrets/"); ok {
					path := filepath.Join(dir, name)
					if err := os.WriteFile(path, []byte(value(name)+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
					pairs = append(pairs, w, "file:"+path)
				}
			}
			there := strings.NewReplacer(pairs...)
			if _, err := pipeline.Decode(file, []byte(there.Replace(string(text)))); err != nil {
				t.Error(err)
			}
		})
	}
}
