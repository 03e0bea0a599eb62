// Command generate writes the JSON Schemas of the files that people write for
// Tercel into a folder: generate FOLDER. It runs inside the repository, whose doc
// comments are the descriptions.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "generate: %s\n", err)
		os.Exit(1)
	}
}

// kinds are the files that there are schemas of.
var kinds = map[string]struct {
	title string
	of    reflect.Type
}{
	"pipeline": {"Tercel's pipeline file, tercel.yaml", reflect.TypeFor[pipeline.File]()},
	"preset":   {"A preset of Tercel's: what it knows of one provider", reflect.TypeFor[provider.Preset]()},
	"accounts": {"Accounts of a source of Tercel's, by name", reflect.TypeFor[map[string]provider.Account]()},
}

func run(folder string) error {
	docs, err := newComments()
	if err != nil {
		return err
	}
	for name, kind := range kinds {
		s, err := config.Schema(kind.of, docs.of)
		if err == nil {
			err = docs.err
		}
		if err != nil {
			return err
		}
		s["title"] = kind.title
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+".json"), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
