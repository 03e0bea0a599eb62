package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

const module = "github.com/tercelhq/tercel/"

// comments are the doc comments of the repository's types and their fields.
type comments struct {
	root     string                       // the repository
	packages map[string]map[string]string // by import path, then Type or Type.Field
	err      error                        // the first that came up
}

// newComments finds the repository around the working directory.
func newComments() (*comments, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return &comments{root: dir, packages: map[string]map[string]string{}}, nil
		}
		if dir == filepath.Dir(dir) {
			return nil, errors.New("not inside the repository")
		}
	}
}

// of returns the comment of a type or, with a name, of a field of it.
func (c *comments) of(t reflect.Type, field string) string {
	path, ours := strings.CutPrefix(t.PkgPath(), module)
	if !ours {
		return ""
	}
	texts := c.packages[path]
	if texts == nil {
		texts = map[string]string{}
		c.packages[path] = texts
		if err := read(filepath.Join(c.root, path), texts); err != nil && c.err == nil {
			c.err = err
		}
	}
	if field == "" {
		return texts[t.Name()]
	}
	text := texts[t.Name()+"."+field]
	if text == "" && c.err == nil {
		c.err = fmt.Errorf("%s.%s: no doc comment", t, field)
	}
	return text
}

// read adds the comments of a folder's package to texts.
func read(dir string, texts map[string]string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.TYPE {
				readTypes(group, texts)
			}
		}
	}
	return nil
}

func readTypes(group *ast.GenDecl, texts map[string]string) {
	for _, spec := range group.Specs {
		typ := spec.(*ast.TypeSpec)
		comment := typ.Doc
		if comment == nil {
			comment = group.Doc
		}
		texts[typ.Name.Name] = prose(comment)
		fields, ok := typ.Type.(*ast.StructType)
		if !ok {
			continue
		}
		text := "" // one comment may speak of several fields, and stands above the first
		for _, f := range fields.Fields.List {
			if f.Doc != nil {
				text = prose(f.Doc)
			}
			for _, name := range f.Names {
				texts[typ.Name.Name+"."+name.Name] = text
			}
		}
	}
}

var link = regexp.MustCompile(`\[([A-Z][A-Za-z]*(?:\.[A-Z][A-Za-z]*)*)\]`)

// prose gives a comment as an editor shows it: paragraphs without line breaks,
// and names without the brackets that make links of them.
func prose(comment *ast.CommentGroup) string {
	text := link.ReplaceAllString(comment.Text(), "$1")
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
	}
	return strings.Join(paragraphs, "\n\n")
}
