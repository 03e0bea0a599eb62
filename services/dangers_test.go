package services_test

import (
	"fmt"
	"go/ast"
	"slices"
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
