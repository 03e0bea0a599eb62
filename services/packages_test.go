package services_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A pkg is one folder with Go files, as far as the checks look at it.
type pkg struct {
	path  string // of the folder, relative to the root of the repository
	files []file
}

// A file is one parsed Go file.
type file struct {
	name      string // relative to the root of the repository
	test      bool
	generated bool
	syntax    *ast.File
}

// imports yields each file of p with each path that it imports.
func imports(p pkg) func(yield func(file, string) bool) {
	return func(yield func(file, string) bool) {
		for _, f := range p.files {
			for _, spec := range f.syntax.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil || !yield(f, imported) {
					return
				}
			}
		}
	}
}

// loadPackages parses all Go files of the three modules, whatever their build
// constraints.
func loadPackages(t *testing.T) []pkg {
	t.Helper()
	sources := map[string]string{}
	for _, top := range []string{"proto", "pkg", "services"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), "_") || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")):
				return fs.SkipDir
			case d.IsDir() || path.Ext(name) != ".go":
				return nil
			}
			text, err := os.ReadFile(name)
			sources[strings.TrimPrefix(filepath.ToSlash(name), "../")] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return parsePackages(t, sources)
}

// parsePackages parses Go files, given by name, and groups them by folder.
func parsePackages(t *testing.T, sources map[string]string) []pkg {
	t.Helper()
	fset := token.NewFileSet()
	pkgs := map[string]pkg{}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		syntax, err := parser.ParseFile(fset, name, sources[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		p := pkgs[path.Dir(name)]
		p.path = path.Dir(name)
		p.files = append(p.files, file{
			name:      name,
			test:      strings.HasSuffix(name, "_test.go"),
			generated: ast.IsGenerated(syntax),
			syntax:    syntax,
		})
		pkgs[p.path] = p
	}
	return slices.SortedFunc(maps.Values(pkgs), func(a, b pkg) int { return cmp.Compare(a.path, b.path) })
}
