package services_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A danger is a name that makes a hole where it is used without thought. It is for
// the packages that have a reason.
type danger struct {
	name  string // of a field, function, variable or type
	users []string
	why   string
}

var dangers = []danger{
	{"InsecureSkipVerify", nil, "whoever is in between could read and change everything"},
	{"ProxyFromEnvironment", []string{"services/cmd/tercel"}, "a proxy sees what services send, and would dial for them what their guard refuses"},
	{"DefaultClient", []string{"services/internal/process", "services/internal/bench", "services/internal/chaos"}, "it has no timeout, follows redirects and asks the environment for a proxy"},
	{"DefaultTransport", []string{"services/internal/bench"}, "it dials any address and asks the environment for a proxy"},
	{"DefaultServeMux", nil, "whatever else is in the process may serve there"},
	{"JS", nil, "what is shown is escaped"},
	{"HTMLAttr", nil, "what is shown is escaped"},
}

// No product code uses a name that makes a hole, but where there is a reason.
func TestDangersAreReserved(t *testing.T) {
	t.Parallel()
	for _, p := range loadPackages(t) {
		for _, fault := range checkDangers(p) {
			t.Error(fault)
		}
	}
}

func checkDangers(p pkg) (faults []string) {
	for _, f := range p.files {
		if f.test || f.generated {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			for _, d := range dangers {
				if id.Name == d.name && !slices.ContainsFunc(d.users, func(who string) bool { return below(p.path, who) }) {
					faults = append(faults, fmt.Sprintf("%s: uses %s: %s", f.name, d.name, d.why))
				}
			}
			return true
		})
	}
	return faults
}

// secretive are the folders that hold secrets, sums made with them and tokens
// against what strangers send. From how long a comparison takes, whoever can try often
// enough finds out a secret byte by byte.
var secretive = []string{"pkg/signature", "pkg/provider", "services/console/internal/access"}

// constantTime is how often their functions compare in constant time.
var constantTime = map[string]int{
	"pkg/signature/credential.go verifyCredential":     1,
	"pkg/signature/jwt.go jwtSigned":                   1,
	"pkg/signature/jwt.go verifyJWT":                   1,
	"pkg/signature/sender.go meant":                    1,
	"pkg/signature/verify.go matchMAC":                 1,
	"pkg/provider/respond.go Allow":                    1,
	"services/console/internal/access/access.go Check": 1,
}

// otherwise are those that compare secrets in another way, and why they may.
var otherwise = map[string]string{
	"pkg/signature/key.go ParseKey":                    "a secret is held against itself",
	"services/console/internal/access/access.go renew": "both are the operator's",
}

// secretNames are what secrets are called there, and what is made of them.
var secretNames = []string{"secret", "Reveal", "token", "given", "sum", "sums", "Sum", "Sum256", "mac", "hash", "digest"}

// comparing are functions that stop at the first difference.
var comparing = []string{"Equal", "EqualFold", "Compare", "DeepEqual", "Contains", "Index"}

// Secrets are compared in constant time, each at the place that is known for it, and
// nothing compares them beside that.
func TestDangersOfTiming(t *testing.T) {
	t.Parallel()
	for _, fault := range checkTiming(loadPackages(t)) {
		t.Error(fault)
	}
}

func checkTiming(pkgs []pkg) (faults []string) {
	found := map[string]int{}
	for _, p := range pkgs {
		for _, f := range p.files {
			if f.test || !slices.ContainsFunc(secretive, func(where string) bool { return below(f.name, where) }) {
				continue
			}
			for _, d := range f.syntax.Decls {
				place := f.name
				if fn, ok := d.(*ast.FuncDecl); ok {
					place += " " + fn.Name.Name
				}
				n, hasty := comparisons(d)
				if found[place] += n; hasty && otherwise[place] == "" {
					faults = append(faults, place+": compares what is secret and not in constant time")
				}
			}
		}
	}
	for _, place := range slices.Sorted(maps.Keys(found)) {
		if got, want := found[place], constantTime[place]; got != want {
			faults = append(faults, fmt.Sprintf("%s: compares %d times in constant time, want %d", place, got, want))
		}
	}
	for _, place := range slices.Sorted(maps.Keys(constantTime)) {
		if _, ok := found[place]; !ok {
			faults = append(faults, place+": isn't there")
		}
	}
	return faults
}

// comparisons counts those in constant time, and tells whether there are others of
// secrets.
func comparisons(d ast.Decl) (constant int, hasty bool) {
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			hasty = hasty || (n.Op == token.EQL || n.Op == token.NEQ) && ofSecrets(n.X, n.Y)
		case *ast.CallExpr:
			fn, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				break
			}
			of, _ := fn.X.(*ast.Ident)
			switch {
			case of != nil && (of.Name == "hmac" && fn.Sel.Name == "Equal" || of.Name == "subtle" && fn.Sel.Name == "ConstantTimeCompare"):
				constant++
			case slices.Contains(comparing, fn.Sel.Name):
				hasty = hasty || ofSecrets(append(slices.Clone(n.Args), fn.X)...)
			}
		}
		return true
	})
	return constant, hasty
}

// ofSecrets tells whether what is compared is secret. What is compared with a constant,
// or by its length, is looked at and not guessed.
func ofSecrets(operands ...ast.Expr) (secret bool) {
	for _, o := range operands {
		switch o := o.(type) {
		case *ast.BasicLit:
			return false
		case *ast.CallExpr:
			if fn, ok := o.Fun.(*ast.Ident); ok && fn.Name == "len" {
				return false
			}
		case *ast.Ident:
			if o.Name == "nil" {
				return false
			}
		}
		ast.Inspect(o, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			secret = secret || ok && slices.Contains(secretNames, id.Name)
			return true
		})
	}
	return secret
}

// The rule finds what it is there to find, and nothing else.
func TestDangersOfTimingAreFound(t *testing.T) {
	t.Parallel()
	const good = "if hmac.Equal(want, sum) { return true }"
	for name, tt := range map[string]struct {
		place, body string // instead of a good one
		want        string // a part of the fault, or "" for none
	}{
		"nothing but what is good":    {"", "", ""},
		"another comparison instead":  {"pkg/signature/verify.go matchMAC", "return bytes.Equal(want, sum)", "compares what is secret"},
		"one of texts":                {"pkg/provider/respond.go Allow", "return text == s.Reveal()", "compares what is secret"},
		"none at all":                 {"pkg/signature/verify.go matchMAC", "return want != nil", "0 times in constant time, want 1"},
		"one in front of a good one":  {"pkg/signature/jwt.go jwtSigned", "if string(sum) != string(want) { return false }; " + good, "compares what is secret"},
		"one that searches":           {"services/console/internal/access/access.go Check", "if slices.Contains(all, hash) { return true }; " + good, "compares what is secret"},
		"lengths and constants":       {"pkg/signature/verify.go matchMAC", `if len(sum) != n || sum == nil || token == "" { return false }; ` + good, ""},
		"a good one at another place": {"pkg/signature/new.go other", good, "1 times in constant time, want 0"},
		"a secret against itself":     {"pkg/signature/key.go ParseKey", "return strings.TrimSpace(secret) != secret", ""},
	} {
		bodies := map[string]string{}
		for place := range constantTime {
			bodies[place] = good
		}
		if bodies[tt.place] = tt.body; tt.place == "" {
			delete(bodies, "")
		}
		sources := map[string]string{}
		for place, body := range bodies {
			name, fn, _ := strings.Cut(place, " ")
			if sources[name] == "" {
				sources[name] = "package p\n"
			}
			sources[name] += "func " + fn + "() bool { " + body + " }\n"
		}
		got := strings.Join(checkTiming(parsePackages(t, sources)), "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: found %q, want %q", name, got, tt.want)
		}
	}
	if got := checkTiming(nil); len(got) != len(constantTime) {
		t.Errorf("without any package %d faults, want %d", len(got), len(constantTime))
	}
}
