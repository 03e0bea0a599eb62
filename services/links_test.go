package services_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link is one in a Markdown file to another file of the repository, without the
// place in it.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)

// Every link from a document to a file leads somewhere, and the README leads to
// every page of docs/.
func TestLinksOfDocuments(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{} // by the README
	documents := 0
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		documents++
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target := filepath.Join(filepath.Dir(name), filepath.FromSlash(found[1]))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: its link to %s leads nowhere", name, found[1])
			}
			linked[target] = linked[target] || name == filepath.Join("..", "README.md")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) < 5 || documents < len(pages) {
		t.Fatalf("%d pages in docs/ of %d documents, %v; the walk looks in the wrong place", len(pages), documents, err)
	}
	for _, page := range pages {
		if !linked[page] {
			t.Errorf("README.md has no link to %s", strings.TrimPrefix(page, "../"))
		}
	}
}
