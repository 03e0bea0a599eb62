// Package services_test holds the rules that all code of the repository obeys:
// who may import what, what packages may be called, what must be documented,
// and that every file in deploy/ can be read.
package services_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// module is what the import paths of the repository's own packages begin with.
const module = "github.com/tercelhq/tercel/"

// A layer says what the packages below one path may import from this repository.
// All paths are relative to its root, and stand for all that is below them too.
type layer struct {
	path string
	may  []string // beside what is below path itself
}

// layers are all packages of the repository, lower ones first: none may import
// what stands further down. The row with the longest path counts.
var layers = []layer{
	{"proto", nil},

	{"pkg/metrics", nil},
	{"pkg/freeport", nil},
	{"pkg/fault", nil},
	{"pkg/egress", []string{"pkg/fault"}},
	{"pkg/field", nil},
	{"pkg/signature", []string{"pkg/field"}},
	{"pkg/config", nil},
	{"pkg/seal", []string{"pkg/config"}},
	// Only here, so that the wire format has a single reader and writer.
	{"pkg/event", []string{"proto", "pkg/fault", "pkg/signature", "pkg/field", "pkg/config"}},
	{"pkg/topology", []string{"pkg/fault", "pkg/config", "pkg/event"}},
	{"pkg/redact", []string{"pkg/field", "pkg/config", "pkg/event", "pkg/topology"}},
	{"pkg/natstest", []string{"pkg/freeport", "pkg/topology"}},
	{"pkg/publish", []string{"pkg/metrics", "pkg/fault", "pkg/config", "pkg/event", "pkg/topology"}},
	{"pkg/consume", []string{"pkg/metrics", "pkg/fault", "pkg/config", "pkg/event", "pkg/topology"}},
	{"pkg/mapping", []string{"pkg/fault", "pkg/config", "pkg/event"}},
	{"pkg/provider", []string{
		"pkg/mapping", "pkg/redact", "pkg/fault", "pkg/signature", "pkg/field", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume",
	}},
	{"pkg/pipeline", []string{
		"pkg/mapping", "pkg/redact", "pkg/egress", "pkg/fault", "pkg/signature", "pkg/field", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume",
		"pkg/provider", "pkg/seal",
	}},
	{"pkg/sourceapi", []string{
		"pkg/metrics", "pkg/egress", "pkg/fault", "pkg/signature", "pkg/field", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume",
		"pkg/provider", "pkg/pipeline", "pkg/seal",
	}},
	{"pkg/account", []string{"pkg/metrics", "pkg/config", "pkg/event", "pkg/topology", "pkg/provider", "pkg/pipeline", "pkg/seal"}},
	{"pkg/seen", []string{"pkg/config", "pkg/event", "pkg/topology"}},
	{"pkg/report", []string{"pkg/event", "pkg/topology", "pkg/consume"}},
	{"pkg/intake", []string{"pkg/event", "pkg/topology", "pkg/consume"}},
	{"pkg/outcome", []string{"pkg/fault", "pkg/event", "pkg/topology", "pkg/consume"}},
	{"pkg/refusal", []string{"pkg/event", "pkg/topology", "pkg/consume"}},
	{"pkg/cursor", []string{
		"pkg/fault", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume", "pkg/provider", "pkg/pipeline",
		"pkg/report",
	}},
	{"pkg/ledger", []string{
		"pkg/fault", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume", "pkg/provider", "pkg/pipeline",
	}},
	{"pkg/deadletter", []string{
		"pkg/redact", "pkg/fault", "pkg/config", "pkg/event", "pkg/topology", "pkg/publish", "pkg/consume", "pkg/provider", "pkg/pipeline",
	}},

	{"services/internal/adminv1connect", []string{"proto"}},
	{"services/internal/watch", nil},
	{"services/internal/process", nil},
	{"services/internal/certs", []string{"pkg", "services/internal/watch"}},
	{"services/internal/chaos/link", nil},
	{"services/internal/boot", []string{"pkg", "services/internal/chaos/link"}},
	{"services/internal/embednats", []string{"pkg"}},
	{"services/internal/chaos/clock", nil},
	{"services/internal/chaos/disk", nil},
	{"services/internal/pgtest", []string{"pkg/freeport", "services/internal/chaos/link"}},
	{"services/internal/pg", nil},
	{"services/internal/destination", []string{"pkg", "services/internal/pg", "services/internal/pgtest"}},
	{"services/internal/timeline", []string{"pkg"}},
	{"services/internal/bench", []string{
		"pkg", "services/internal/embednats", "services/internal/pgtest", "services/internal/process", "services/internal/timeline",
	}},
	{"services/internal/control", []string{"pkg", "services/internal/boot"}},
	{"services/internal/blame", nil},
	{"services/internal/lobby", nil},
	{"services/internal/replay", []string{"pkg", "services/internal/control"}},
	{"services/internal/status", []string{"pkg"}},
	{"services/internal/lookback", []string{"pkg"}},
	{"services/internal/auditlog", []string{"pkg", "services/internal/lookback"}},
	{"services/internal/simulator", []string{"pkg"}},
	{"services/internal/fileschema", []string{"pkg"}},
	{"services/internal/grafana", []string{"pkg"}},
	{"services/internal/contract", []string{"pkg"}},
	{"services/internal/proof", []string{"pkg", "services/internal/pgtest", "services/internal/simulator"}},
	{"services/internal/chaos", []string{
		"pkg", "services/internal/pgtest", "services/internal/process", "services/internal/simulator", "services/internal/proof",
	}},

	{"services/ingress", []string{"pkg", "services/internal"}},
	{"services/enricher", []string{"pkg", "services/internal"}},
	{"services/sink", []string{"pkg", "services/internal"}},
	{"services/reconciler", []string{"pkg", "services/internal"}},
	{"services/console", []string{"proto", "pkg", "services/internal"}},

	{"services/cmd/ingress", []string{"pkg", "services/internal", "services/ingress"}},
	{"services/cmd/enricher", []string{"pkg", "services/internal", "services/enricher"}},
	{"services/cmd/sink", []string{"pkg", "services/internal", "services/sink"}},
	{"services/cmd/reconciler", []string{"pkg", "services/internal", "services/reconciler"}},
	{"services/cmd/console", []string{"pkg", "services/internal", "services/console"}},
	{"services/cmd/tercel", []string{
		"proto", "pkg", "services/internal", "services/ingress", "services/enricher", "services/sink", "services/reconciler", "services/console",
	}},

	{"services/e2e", []string{
		"proto", "pkg", "services/internal", "services/ingress", "services/enricher", "services/sink", "services/reconciler",
		"services/console", "services/cmd/tercel",
	}},
}

// A reservation says that what is below one import path belongs to a few
// packages, named like those of a [layer].
type reservation struct {
	path  string
	users []string // may import it anywhere
	tests []string // may import it in tests; "" stands for all
	why   string
}

// reservations narrow what the layers allow, and rule outside packages too.
var reservations = []reservation{
	{
		path:  "github.com/nats-io/nats-server",
		users: []string{"pkg/natstest", "services/internal/embednats"},
		tests: []string{"services/e2e"},
		why:   "services work against any server; only two packages make one",
	},
	{
		path:  "os/exec",
		users: []string{"services/internal/process", "services/internal/bench", "services/internal/chaos", "services/internal/pgtest"},
		tests: []string{""},
		why:   "a service runs no program, whatever it is sent; those that test services do",
	},
	{
		path:  "unsafe",
		users: []string{"proto", "services/internal/bench"},
		why:   "memory that Go doesn't watch is written by generated code alone, and by what measures",
	},
	{
		path:  "text/template",
		users: []string{},
		why:   "pages escape what they show, and nothing else is made from a template",
	},
	{
		path:  "html/template",
		users: []string{"services/console/internal/pages"},
		tests: []string{""},
		why:   "no other service has pages",
	},
	{
		path:  "net/http/pprof",
		users: []string{},
		why:   "it serves profiles on the mux that anybody else in the process may serve, too",
	},
	{
		path:  "crypto/sha1",
		users: []string{"pkg/signature"},
		tests: []string{""},
		why:   "it is for providers that offer nothing better",
	},
	{
		path:  "crypto/md5",
		users: []string{},
		why:   "it proves nothing",
	},
	{
		path:  "github.com/alecthomas/kong",
		users: []string{"services/cmd/tercel"},
		why:   "it finds methods by name, for which the linker keeps all there are: a quarter of a service's size",
	},
	{
		path:  "modernc.org/sqlite",
		users: []string{"services/sink/internal/sqlite", "services/internal/destination", "services/internal/proof"},
		tests: []string{"services/e2e", "services/cmd/tercel"},
		why:   "a database belongs to its destination; proof and tests read what it wrote",
	},
	{
		path: "github.com/jackc/pgx",
		users: []string{
			"services/internal/pg", "services/sink/internal/postgres", "services/internal/destination", "services/internal/bench", "services/internal/chaos",
			"services/internal/proof", "services/internal/pgtest",
		},
		tests: []string{"services/e2e", "services/sink"},
		why:   "a database belongs to its destination, and is read in one place",
	},
	{
		path:  "github.com/robfig/cron",
		users: []string{"pkg/provider"},
		why:   "it only reads the expressions of schedules, which the reconciler keeps by itself",
	},
	{
		path:  "github.com/santhosh-tekuri/jsonschema",
		users: []string{"pkg/provider"},
		tests: []string{"services/internal/fileschema", "services/internal/contract", "services/e2e", "services/cmd/tercel"},
		why:   "an operator's schemas are read with the pipeline file",
	},
	{
		path:  "github.com/minio/minio-go",
		users: []string{"services/sink/internal/objects"},
		tests: []string{"services/sink"},
		why:   "a store belongs to its destination",
	},
	{
		path:  "github.com/parquet-go",
		users: []string{"services/sink/internal/objects"},
		tests: []string{"services/sink"},
		why:   "a format belongs to its destination",
	},
	{
		path:  "go.opentelemetry.io/otel/sdk",
		users: []string{"services/internal/boot"},
		tests: []string{""},
		why:   "the others measure through the API, and boot decides where that goes",
	},
	{
		path:  "go.opentelemetry.io/otel/exporters",
		users: []string{"services/internal/boot"},
		why:   "the others measure through the API, and boot decides where that goes",
	},
	{
		path:  "github.com/prometheus",
		users: []string{"services/internal/boot"},
		tests: []string{""},
		why:   "the others measure through the OpenTelemetry API",
	},
	{
		path:  module + "pkg/natstest",
		tests: []string{""},
		why:   "it is made for tests",
	},
	{
		path:  module + "pkg/freeport",
		users: []string{"pkg/natstest", "services/internal/pgtest", "services/internal/chaos", "services/internal/bench"},
		tests: []string{""},
		why:   "who serves for good is told its port, or takes any",
	},
	{
		path:  module + "services/internal/embednats",
		users: []string{"services/cmd/tercel", "services/internal/bench"},
		tests: []string{"services/e2e", "services/internal/simulator"},
		why:   "only the all-in-one brings its own server",
	},
	{
		path:  module + "services/internal/pgtest",
		users: []string{"services/internal/bench", "services/internal/chaos"},
		tests: []string{""},
		why:   "it is made for tests and benchmarks",
	},
	{
		path:  module + "services/internal/chaos",
		users: []string{"services/internal/pgtest"},
		tests: []string{""},
		why:   "it does harm",
	},
	{
		path:  module + "services/internal/simulator",
		users: []string{"services/cmd/tercel", "services/internal/proof", "services/internal/chaos"},
		tests: []string{""},
		why:   "it is no part of a service",
	},
}

// banned are names that say nothing of what a package is for.
var banned = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "base"}

// checks are the rules for a package. Each returns one line per fault.
var checks = map[string]func(pkg) []string{
	"layers":       checkLayers,
	"reservations": checkReservations,
	"names":        checkNames,
	"package docs": checkPackageDocs,
	"export docs":  checkExportDocs,
}

// Every package of the repository obeys every rule.
func TestRules(t *testing.T) {
	t.Parallel()
	pkgs := loadPackages(t)
	if len(pkgs) < 3 {
		t.Fatalf("only %d packages found; the walk looks in the wrong place", len(pkgs))
	}
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, p := range pkgs {
				for _, fault := range check(p) {
					t.Error(fault)
				}
			}
		})
	}
}

// No row of the table allows what stands below it, so the table can't be bent
// until it allows anything.
func TestLayersPointDown(t *testing.T) {
	t.Parallel()
	for i, l := range layers {
		for _, may := range l.may {
			for _, higher := range layers[i+1:] {
				if below(higher.path, may) {
					t.Errorf("%s may import %s, which allows %s although that is higher", l.path, may, higher.path)
				}
			}
		}
	}
}

// Every YAML and JSON file in deploy/ can be parsed, and no key stands in it
// twice. Of the Helm chart's templates that is true of what they render, which is
// there too.
func TestDeployFilesParse(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("../deploy", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() && filepath.ToSlash(name) == "../deploy/helm/tercel/templates" {
			return fs.SkipDir
		}
		if err != nil || !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := parseData(name, string(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkLayers reports the imports that the table of layers doesn't allow, and a
// package that isn't in it.
func checkLayers(p pkg) []string {
	if p.path == "services" { // this test itself
		return nil
	}
	row, ok := layerOf(p.path)
	if !ok {
		return []string{fmt.Sprintf("%s: in no layer; add it to layers in services/layers_test.go", p.path)}
	}
	var faults []string
	for f, imported := range imports(p) {
		own, ok := strings.CutPrefix(imported, module)
		if !ok || below(own, row.path) || f.test && (own == "pkg/natstest" || own == "pkg/freeport") {
			continue
		}
		if !slices.ContainsFunc(row.may, func(may string) bool { return below(own, may) }) {
			faults = append(faults, fmt.Sprintf("%s: imports %s, which %s may not", f.name, own, row.path))
		}
	}
	return faults
}

// checkReservations reports imports of what is reserved for other packages.
func checkReservations(p pkg) []string {
	var faults []string
	for f, imported := range imports(p) {
		for _, r := range reservations {
			if !below(imported, r.path) || below(module+p.path, r.path) {
				continue
			}
			allowed := r.users
			if f.test {
				allowed = slices.Concat(r.users, r.tests)
			}
			if !slices.ContainsFunc(allowed, func(who string) bool { return below(p.path, who) }) {
				faults = append(faults, fmt.Sprintf("%s: imports %s, reserved for %v: %s", f.name, imported, allowed, r.why))
			}
		}
	}
	return faults
}

// checkNames reports a name that says nothing.
func checkNames(p pkg) []string {
	var faults []string
	if slices.Contains(banned, path.Base(p.path)) {
		faults = append(faults, fmt.Sprintf("%s: name the package for the idea it holds", p.path))
	}
	for _, f := range p.files {
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(banned, name) && name != path.Base(p.path) {
			faults = append(faults, fmt.Sprintf("%s: package %s: name the package for the idea it holds", f.name, name))
		}
	}
	return faults
}

// checkPackageDocs reports a package without exactly one comment that begins as
// Go wants it. A folder of tests alone has its comment in one of them.
func checkPackageDocs(p pkg) []string {
	var faults, documented []string
	onlyTests := !slices.ContainsFunc(p.files, func(f file) bool { return !f.test })
	for _, f := range p.files {
		if f.syntax.Doc == nil || f.test && !onlyTests {
			continue
		}
		documented = append(documented, f.name)
		want := "Package " + f.syntax.Name.Name
		if f.syntax.Name.Name == "main" {
			want = "Command " + path.Base(p.path)
		}
		if !beginsWith(f.syntax.Doc.Text(), want) {
			faults = append(faults, fmt.Sprintf("%s: package comment doesn't begin with %q", f.name, want))
		}
	}
	switch {
	case len(documented) == 0:
		faults = append(faults, fmt.Sprintf("%s: no package comment", p.path))
	case len(documented) > 1:
		faults = append(faults, fmt.Sprintf("%s: more than one package comment: %v", p.path, documented))
	}
	return faults
}

// checkExportDocs reports exported names without a comment that begins with the
// name. Fields of structs and methods of interfaces are left to the author.
func checkExportDocs(p pkg) []string {
	var faults []string
	for _, f := range p.files {
		if f.test || f.generated {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if exportedFunc(d) {
					faults = append(faults, checkDoc(f, d.Doc, d.Name)...)
				}
			case *ast.GenDecl:
				faults = append(faults, checkDeclDocs(f, d)...)
			}
		}
	}
	return faults
}

// checkDeclDocs is checkExportDocs for a declaration of types, constants or
// variables. In a group that has a comment, names need none of their own.
func checkDeclDocs(f file, d *ast.GenDecl) []string {
	var faults []string
	for _, s := range d.Specs {
		var names []*ast.Ident
		var doc *ast.CommentGroup
		grouped := d.Lparen.IsValid() && d.Doc != nil
		switch s := s.(type) {
		case *ast.TypeSpec:
			names, doc, grouped = []*ast.Ident{s.Name}, s.Doc, false
		case *ast.ValueSpec:
			names, doc = s.Names, s.Doc
		}
		if !d.Lparen.IsValid() {
			doc = d.Doc
		}
		names = slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
		if len(names) > 0 && !grouped {
			faults = append(faults, checkDoc(f, doc, names...)...)
		}
	}
	return faults
}

// checkDoc reports a comment that is missing or begins with none of the names.
func checkDoc(f file, doc *ast.CommentGroup, names ...*ast.Ident) []string {
	if doc.Text() == "" {
		return []string{fmt.Sprintf("%s: %s has no comment", f.name, names[0].Name)}
	}
	text := doc.Text()
	for _, article := range []string{"A ", "An ", "The "} {
		text = strings.TrimPrefix(text, article)
	}
	if !slices.ContainsFunc(names, func(n *ast.Ident) bool { return beginsWith(text, n.Name) }) {
		return []string{fmt.Sprintf("%s: comment on %s doesn't begin with its name", f.name, names[0].Name)}
	}
	return nil
}

// exportedFunc says whether d can be named from another package: a function, or
// a method of a type that is exported itself.
func exportedFunc(d *ast.FuncDecl) bool {
	if !d.Name.IsExported() || d.Recv == nil {
		return d.Name.IsExported()
	}
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}

// beginsWith says whether text begins with prefix as a whole word.
func beginsWith(text, prefix string) bool {
	rest, ok := strings.CutPrefix(text, prefix)
	next, _ := utf8.DecodeRuneInString(rest)
	return ok && rest != "" && !unicode.IsLetter(next) && !unicode.IsDigit(next) && next != '_'
}

// below says whether path is prefix or stands below it. All is below "".
func below(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

// layerOf returns the row with the longest path that path is below.
func layerOf(path string) (layer, bool) {
	rows := slices.DeleteFunc(slices.Clone(layers), func(l layer) bool { return !below(path, l.path) })
	if len(rows) == 0 {
		return layer{}, false
	}
	return slices.MaxFunc(rows, func(a, b layer) int { return cmp.Compare(len(a.path), len(b.path)) }), true
}

// parseData reads all of a YAML or JSON file.
func parseData(name, text string) error {
	if path.Ext(name) == ".json" && !json.Valid([]byte(text)) {
		return errors.New("not JSON")
	}
	// JSON is YAML too, and this parser refuses a key that stands there twice.
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
