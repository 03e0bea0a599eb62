package provider_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/provider"
)

func TestNextLinkIsReadStrictly(t *testing.T) {
	t.Parallel()
	const a, b = "https://api.example.com/a?page=2", "https://api.example.com/b"
	tests := map[string]struct {
		headers []string
		want    string
		fault   bool
	}{
		"none":                      {nil, "", false},
		"empty":                     {[]string{""}, "", false},
		"of GitHub":                 {[]string{`<` + a + `>; rel="next", <` + b + `>; rel="last"`}, a, false},
		"of Shopify, backwards":     {[]string{`<` + b + `>; rel="previous", <` + a + `>; rel="next"`}, a, false},
		"in two headers":            {[]string{`<` + b + `>; rel=prev`, `<` + a + `>; rel=next`}, a, false},
		"only a previous":           {[]string{`<` + b + `>; rel="previous"`}, "", false},
		"without quotes":            {[]string{`<` + a + `>;rel=next`}, a, false},
		"in capitals":               {[]string{`<` + a + `>; REL="NEXT"`}, a, false},
		"among relations":           {[]string{`<` + a + `>; rel="last next"`}, a, false},
		"in the name of a relation": {[]string{`<` + a + `>; rel="next-archive"`}, "", false},
		"a second rel":              {[]string{`<` + a + `>; rel="last"; rel="next"`}, "", false},
		"of another resource":       {[]string{`<` + a + `>; rel="next"; anchor="/other"`}, "", false},
		"a comma in the target":     {[]string{`<` + a + `&x=1,2>; rel="next"`}, a + "&x=1,2", false},
		"a comma in a title":        {[]string{`<` + b + `>; title="a, <x>; rel=next"; rel=last, <` + a + `>; rel=next`}, a, false},
		"an escaped quote":          {[]string{`<` + a + `>; title="a\"b"; rel="next"`}, a, false},
		"empty elements":            {[]string{`, ,<` + a + `>; rel=next; ;,`}, a, false},
		"spaces around":             {[]string{"\t<" + a + "> ; rel = \"next\" "}, a, false},
		"twice the same":            {[]string{`<` + a + `>; rel=next, <` + a + `>; rel=next`}, a, false},
		"relative":                  {[]string{`</a?page=2>; rel=next`}, "/a?page=2", false},
		"a flag":                    {[]string{`<` + a + `>; crossorigin; rel=next`}, a, false},
		"two next pages":            {[]string{`<` + a + `>; rel=next, <` + b + `>; rel=next`}, "", true},
		"no brackets":               {[]string{a + `; rel=next`}, "", true},
		"an open bracket":           {[]string{`<` + a + `; rel=next`}, "", true},
		"an empty target":           {[]string{`<>; rel=next`}, "", true},
		"a space in the target":     {[]string{`<https://a b>; rel=next`}, "", true},
		"an open quote":             {[]string{`<` + a + `>; rel="next`}, "", true},
		"an open escape":            {[]string{`<` + a + `>; rel="next\`}, "", true},
		"no value":                  {[]string{`<` + a + `>; rel=`}, "", true},
		"no name":                   {[]string{`<` + a + `>; =next`}, "", true},
		"rubbish behind":            {[]string{`<` + a + `>; rel=next x`}, "", true},
		"over-long":                 {[]string{`<` + a + strings.Repeat("x", 17<<10) + `>; rel=next`}, "", true},
		"too many":                  {[]string{strings.Repeat(`<`+b+`>; rel=x,`, 65)}, "", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := provider.NextLink(tt.headers)
			if got != tt.want || (err != nil) != tt.fault {
				t.Errorf("NextLink(%q) = %q, %v, want %q, fault %t", tt.headers, got, err, tt.want, tt.fault)
			}
		})
	}
}

func TestLinksStayBelowTheBase(t *testing.T) {
	t.Parallel()
	const base, path = "https://api.example.com/v2", "/orders?limit=2"
	tests := map[string]struct{ link, want string }{
		"absolute":               {"https://api.example.com/v2/orders?page=2", "/orders?page=2"},
		"with the scheme's port": {"https://api.example.com:443/v2/orders?page=2", "/orders?page=2"},
		"in another case":        {"https://API.example.com/v2/orders?page=2", "/orders?page=2"},
		"with a fragment":        {"https://api.example.com/v2/orders?page=2#x", "/orders?page=2"},
		"a query":                {"?page=2", "/orders?page=2"},
		"a path":                 {"/v2/orders?page=2", "/orders?page=2"},
		"a neighbour":            {"invoices?page=2", "/invoices?page=2"},
		"escaped":                {"/v2/a%2Fb?c=%20", "/a%2Fb?c=%20"},
		"another host":           {"https://evil.example.com/v2/orders", ""},
		"a host that begins so":  {"https://api.example.com.evil.example/v2/orders", ""},
		"another port":           {"https://api.example.com:8443/v2/orders", ""},
		"another scheme":         {"http://api.example.com/v2/orders", ""},
		"no scheme":              {"//evil.example.com/v2/orders", ""},
		"a user":                 {"https://u@api.example.com/v2/orders", ""},
		"out of the base":        {"/v1/orders", ""},
		"up out of the base":     {"../v1/orders", ""},
		"a path that begins so":  {"/v22/orders", ""},
		"the base itself":        {"https://api.example.com/v2", ""},
		"a script":               {"javascript:alert(1)", ""},
		"a back slash":           {"https://api.example.com\\@evil.example.com/v2/x", ""},
		"a line break":           {"/v2/orders\r\nX: y", ""},
		"over-long":              {"/v2/" + strings.Repeat("x", 9000), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := provider.Below(base, path, tt.link)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("Below(%q) = %q, %v, want %q", tt.link, got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "evil") {
				t.Errorf("the error quotes the API: %v", err)
			}
		})
	}
}

func FuzzNextLink(f *testing.F) {
	f.Add(`<https://api.example.com/a?page=2>; rel="next", </b>; rel=last; title="x\"y"`)
	f.Add(`<a>;rel=next;anchor=b,,<c>`)
	f.Fuzz(func(t *testing.T, header string) {
		next, err := provider.NextLink([]string{header})
		if err != nil || next == "" {
			return
		}
		if !strings.Contains(header, "<"+next+">") {
			t.Errorf("NextLink(%q) = %q, which it doesn't hold", header, next)
		}
		if again, err := provider.NextLink([]string{"<" + next + ">; rel=next"}); err != nil || again != next {
			t.Errorf("NextLink of %q by itself = %q, %v", next, again, err)
		}
	})
}

func FuzzBelow(f *testing.F) {
	f.Add("https://api.example.com/v2/orders?page=2")
	f.Add("?page=2#x")
	f.Add("//evil.example.com/v2/x")
	f.Add("../v2/..%2f..")
	f.Fuzz(func(t *testing.T, link string) {
		const base = "https://api.example.com/v2"
		got, err := provider.Below(base, "/orders", link)
		if err != nil {
			return
		}
		u, err := url.Parse(base + got)
		if err != nil || u.Host != "api.example.com" || u.Scheme != "https" || u.User != nil || !strings.HasPrefix(u.Path, "/v2/") {
			t.Errorf("Below(%q) = %q, which leaves %s", link, got, base)
		}
	})
}

func ExampleNextLink() {
	next, _ := provider.NextLink([]string{`<https://api.example.com/issues?page=3>; rel="next", <https://api.example.com/issues?page=9>; rel="last"`})
	fmt.Println(provider.Below("https://api.example.com", "/issues?page=2", next))
	// Output: /issues?page=3 <nil>
}
