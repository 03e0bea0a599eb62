package provider_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// Each fault of a resource is told with its place when the file is loaded.
func TestFaultsOfResources(t *testing.T) {
	t.Parallel()
	const head = `preset: github
secrets: [env:S]
resources:
  order:
    triggers: [order.*]
    id: body.id
`
	const get, version = "    get: /o/{id}\n", "    version: record.v\n"
	tests := map[string]struct{ keys, place, want string }{
		"no get":                     {version, "5", "resources.order.get"},
		"get by the record":          {"    get: /o/{record.id}\n" + version, "7:10", "the record is not there yet"},
		"get by a related record":    {"    get: {graphql: {query: q, variables: {a: related.x.id}}}\n" + version, "7:10", "the record is not there yet"},
		"get of neither":             {"    get: {path: /x}\n" + version, "7:10", "or {graphql"},
		"a query of nothing":         {"    get: {graphql: {variables: {a: id}}}\n" + version, "7", "query"},
		"a variable of nothing":      {"    get: {graphql: {query: q, variables: {a: env.HOME}}}\n" + version, "7:46", "such as id"},
		"no version":                 {get, "5", "resources.order.version"},
		"version of another header":  {get + "    version: header.X-Version\n", "8:14", "header.ETag"},
		"version of the body":        {get + "    version: body.v\n", "8:14", "header.ETag"},
		"lists have no headers":      {get + "    version: header.ETag\n    reconcile: {list: /o}\n", "8:14", "lists, which reconcile compares"},
		"lists have no events":       {get + "    version: event.time\n    reconcile: {list: /o}\n", "8:14", "lists, which reconcile compares"},
		"a hash is not older":        {get + "    version: hash\n    expect: body.v\n", "9:13", "version: hash, which doesn't tell what is older"},
		"an ETag is not older":       {get + "    version: header.etag\n    expect: body.v\n", "9:13", "version: header.ETag, which"},
		"expect of a header":         {get + version + "    expect: header.X\n", "9:13", "headers and form are not kept"},
		"gone of the body":           {get + version + "    gone: {body.x: y}\n", "9:20", "such as record.deleted"},
		"selection of nothing":       {get + version + "    select: []\n", "9:13", "no path"},
		"selection twice":            {get + version + "    select: [a.b, a]\n", "9:13", "named already"},
		"related of nothing":         {get + version + "    related: {a: {optional: true}}\n", "9:18", "one of get"},
		"related twice":              {get + version + "    related: {a: {get: /a, list: {path: /b}}}\n", "9:18", "one of get"},
		"a list of nothing":          {get + version + "    related: {a: {list: {items: x}}}\n", "9", "path"},
		"a list without end":         {get + version + "    related: {a: {list: {path: /b, max: 20000}}}\n", "9:41", "1 to 10000"},
		"a list of what is no path":  {get + version + "    related: {a: {list: {path: /b, items: a..b}}}\n", "9:43", "such as data.lines"},
		"a list by numbers of pages": {get + version + "    related: {a: {list: {path: /b, next: {page: p}, limit: {param: n}}}}\n", "9:42", "cursor, offset, link or after"},
		"a reference to nobody":      {get + version + "    related: {a: /a, b: \"/b/{related.c.id}\"}\n", "9:25", "one of the related records: a, b"},
		"a reference to itself":      {get + version + "    related: {a: \"/a/{related.a.id}\"}\n", "9:18", "a cycle: a, a"},
		"a cycle":                    {get + version + "    related:\n      a: \"/{related.b.id}\"\n      b: {list: {path: \"/{related.c.id}\"}}\n      c: \"/{related.a.id}\"\n", "10:10", "a cycle: a, b, c, a"},
		"a cycle by a variable":      {get + version + "    related:\n      a: {get: {graphql: {query: q, variables: {x: related.b.id}}}}\n      b: \"/{related.a.id}\"\n", "10:10", "a cycle: a, b, a"},
		"merge of another kind":      {get + version + "    related: {a: {get: /a, merge: flat}}\n", "9:35", "nest, or {replace"},
		"merge into nothing":         {get + version + "    related: {a: {get: /a, merge: {}}}\n", "9:35", "nest, or {replace"},
		"merge into the trigger":     {get + version + "    related: {a: {get: /a, merge: {replace: body.x}}}\n", "9:35", "nest, or {replace"},
		"merge into each element":    {get + version + "    related: {a: {get: /a, merge: {replace: \"record.x[].y\"}}}\n", "9:35", "nest, or {replace"},
		"merge of two into one":      {get + version + "    related:\n      a: {get: /a, merge: {replace: record.x}}\n      b: {get: /b, merge: {replace: record.x}}\n", "11:27", "another place than that of a"},
		"a class of failures":        {get + version + "api: {failures: {classes: {x: bad}}}\n", "9:31", "gone, throttled"},
		"a code of failures":         {get + version + "api: {failures: {code: a..b}}\n", "9:24", "such as error"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, head+tt.keys)
			if err == nil {
				t.Fatal("no fault")
			}
			if line := strings.Split(err.Error(), "\n")[0]; !strings.HasPrefix(line, "source.yaml:"+tt.place) || !strings.Contains(line, tt.want) {
				t.Errorf("got %s, want it at %s: %s", line, tt.place, tt.want)
			}
		})
	}
}

func TestExpectedVersionsAreCompared(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		shown, expected string
		behind          bool
	}{
		"the same":                      {"2026-03-01T10:00:05Z", "2026-03-01T11:00:05+01:00", false},
		"older":                         {"2026-03-01T10:00:04Z", "2026-03-01T10:00:05Z", true},
		"newer":                         {"10", "9", false},
		"a time in seconds":             {"2026-03-01T10:00:04Z", "1772359205", true},
		"a time in milliseconds":        {"2026-03-01T10:00:05.123Z", "1772359205123", false},
		"seconds against a time":        {"1772359204", "2026-03-01T10:00:05Z", true},
		"milliseconds against a time":   {"1772359205000", "2026-03-01T10:00:05Z", false},
		"texts":                         {"a", "b", true},
		"a fraction of the same number": {"1.5", "1.50", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown, err := event.ParseVersion(tt.shown)
			if err != nil {
				t.Fatal(err)
			}
			expected, err := event.ParseVersion(tt.expected)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := provider.Behind(shown, expected); err != nil || got != tt.behind {
				t.Errorf("Behind(%s, %s) = %t, %v, want %t", shown, expected, got, err, tt.behind)
			}
		})
	}
	for _, other := range []event.Version{"stext", "n0011.5"} {
		if _, err := provider.Behind(event.TimeVersion(seenAt), other); err == nil {
			t.Errorf("a time was compared with %s", other)
		}
	}
	if behind, err := provider.Behind("n0011", ""); behind || err != nil {
		t.Errorf("Behind() of nothing expected = %t, %v", behind, err)
	}
}

// What is one record in whatever spelling has one hash.
func TestHashesLookAtWhatIsSelected(t *testing.T) {
	t.Parallel()
	s := mustSource(t, "preset: github\nsecrets: [env:S]\nresources:\n  x: {triggers: [x], id: body.id, get: \"/x/{id}\", select: [a, b], version: hash}\n")
	hash := func(record string) string { return mark(t, s.Resources["x"], []byte(record), time.Now()) }
	first := hash(`{"a":{"x":1,"y":[1,2]},"b":"ü","seen":1}`)
	for name, tt := range map[string]struct {
		record string
		same   bool
	}{
		"spaces, order and escapes": {"{ \"b\": \"\\u00fc\",\n\"a\":{\"y\":[ 1,2],\"x\":1}}", true},
		"what is not selected":      {`{"a":{"x":1,"y":[1,2]},"b":"ü","seen":2}`, true},
		"a value":                   {`{"a":{"x":2,"y":[1,2]},"b":"ü"}`, false},
		"the order of an array":     {`{"a":{"x":1,"y":[2,1]},"b":"ü"}`, false},
		"digits beyond a float":     {`{"a":{"x":1.00000000000000000001,"y":[1,2]},"b":"ü"}`, false},
	} {
		if got := hash(tt.record); (got == first) != tt.same {
			t.Errorf("%s: hash is the same: %t, want %t", name, got == first, tt.same)
		}
	}
}

func ExampleGet_Ask() {
	e, _ := field.Parse("gid://shop/Order/{id}", "id")
	path, _ := provider.ParsePath("/graphql")
	get := provider.Get{GraphQL: &provider.GraphQL{
		Query: "query($id: ID!) {order(id: $id) {total}}", Variables: map[string]provider.Variable{"id": {Expr: e}}, Path: path,
	}}
	ask, err := get.Ask(field.Scope{Values: map[string]string{"id": "7"}})
	fmt.Println(ask.Path, string(ask.Body), err)
	// Output: /graphql {"query":"query($id: ID!) {order(id: $id) {total}}","variables":{"id":"gid://shop/Order/7"}} <nil>
}
