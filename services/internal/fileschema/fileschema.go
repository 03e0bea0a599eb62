// Package fileschema has the JSON Schemas (2020-12) of the files that people
// write for Tercel, so that editors complete and check them.
//
// They say which keys there are and what kind of value each takes. "tercel
// check" finds more: what one key demands of another, and what a secret must be.
// The files beside this one are written by scripts/generate from the Go types
// that read the files, and from their doc comments.
package fileschema

import (
	"embed"
	"slices"
	"strings"
)

//go:embed *.json
var files embed.FS

// Names lists the files that have a schema: accounts, pipeline, preset.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the folder is part of this program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	slices.Sort(names)
	return names
}

// Of returns the schema with that name, and whether there is one.
func Of(name string) ([]byte, bool) {
	text, err := files.ReadFile(name + ".json")
	return text, err == nil
}
