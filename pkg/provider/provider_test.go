package provider_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// source decodes one source as a pipeline file would.
func source(t *testing.T, text string) (*provider.Source, error) {
	t.Helper()
	return decode(text)
}

func decode(text string) (*provider.Source, error) {
	s := &provider.Source{}
	err := config.Decode("source.yaml", []byte(text), s, config.WithLookupEnv(func(string) (string, bool) {
		return "whsec_c2VjcmV0LW9mLWVub3VnaC1sZW5ndGg=", true
	}))
	return s, err
}

func mustSource(t *testing.T, text string) *provider.Source {
	t.Helper()
	s, err := source(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every preset is a source by itself: it has a scheme, an identity, and what
// tercel init tells of it. What its scheme accepts is told by its vectors.
func TestEveryPresetIsASource(t *testing.T) {
	t.Parallel()
	for _, name := range provider.PresetNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := provider.LookupPreset(name)
			if p.Title == "" || !strings.HasPrefix(p.Docs, "https://") || p.Secret == "" {
				t.Error("title, docs and secret must be filled in")
			}
			if _, err := signature.Compile(p.Verify); err != nil {
				t.Error(err)
			}
			for _, resource := range p.Resources {
				if resource.Reconcile != nil && resource.Reconcile.List.IsZero() {
					t.Error("a resource without a list path")
				}
			}
		})
	}
}

// What one source changes about a preset's resource stays with that source.
func TestOverridingAPresetLeavesThePresetAlone(t *testing.T) {
	t.Parallel()
	const base = "preset: miniflux\nsecrets: [env:S]\napi: {base: \"https://reader.example.com\"}\n"
	changed := mustSource(t, base+"resources:\n  entry:\n    related: {feed: \"/v1/feeds/{record.feed_id}\"}\n    reconcile: {every: 7s, query: {status: unread}}\n")
	plain := mustSource(t, base+"resources: [entry]\n")
	if got := changed.Resources["entry"].Reconcile; got.Every.Interval != 7*time.Second || got.Items != "entries" || got.Query["status"] != "unread" {
		t.Errorf("the override is %+v, want the preset's with every: 7s and one more parameter", got)
	}
	if got := plain.Resources["entry"]; got.Reconcile.Every.Interval != time.Hour || got.Reconcile.Query["status"] != "" || len(got.Related) != 0 {
		t.Errorf("another source's override reached the preset: %+v", got.Reconcile)
	}
	const stripe = "preset: stripe\nsecrets: [env:S]\n"
	changed = mustSource(t, stripe+"resources:\n  invoice:\n    related: {plan: /v1/plans/x}\n    gone: {record.void: \"true\"}\n")
	plain = mustSource(t, stripe+"resources: [invoice]\n")
	if got := plain.Resources["invoice"]; len(got.Related) != 1 || len(got.Gone) != 1 || changed.Resources["invoice"].Related["plan"].Get.IsZero() {
		t.Errorf("another source's override reached the preset: related %v, gone %v", got.Related, got.Gone)
	}
	const slack = "preset: slack\nsecrets: [env:S]\nresources: [user]\n"
	_ = mustSource(t, slack+"api: {failures: {classes: {odd: gone}}}\n")
	if got := mustSource(t, slack).API.Failures.Classes; got["odd"] != "" || got["user_not_found"] != provider.FailureGone {
		t.Errorf("another source's override reached the preset: failures %v", got)
	}
}

func TestTriggersNameTheirResource(t *testing.T) {
	t.Parallel()
	s := mustSource(t, `
verify: {scheme: hmac-sha256, header: X-Sig}
secrets: [env:S]
event: {type: body.type}
api: {base: "https://api.example.com"}
resources:
  b: {triggers: ["invoice.*"], id: body.id, get: "/b/{id}", version: record.v}
  a: {triggers: ["*.deleted", "order.>"], id: body.id, get: "/a/{id}", version: record.v}
`)
	for typ, want := range map[string]string{
		"order.paid": "a", "order.line.added": "a", "order": "", "invoice.paid": "b", "invoice.deleted": "a", "invoice.x.y": "", "ping": "",
	} {
		if got, _, _ := s.ResourceFor(typ); got != want {
			t.Errorf("ResourceFor(%s) = %q, want %q", typ, got, want)
		}
	}
}

func TestPathsCannotBeLeft(t *testing.T) {
	t.Parallel()
	p, err := provider.ParsePath("/orders/{id}/x?of={id}")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"7": "7", "../admin": "..%2Fadmin", "a?b#c": "a%3Fb%23c", "%2e": "%252e", "1&all=true": "1%26all%3Dtrue", "a+b c": "a%2Bb%20c",
	} {
		want = "/orders/" + want + "/x?of=" + want
		if got, err := p.Fill(field.Scope{Values: map[string]string{"id": id}}); err != nil || got != want {
			t.Errorf("Fill(%q) = %q, %v, want %q", id, got, err, want)
		}
	}
}

func TestCursorsEndWhereTheAnswerSaysSo(t *testing.T) {
	t.Parallel()
	s := mustSource(t, `
verify: {scheme: hmac-sha256, header: X-Sig}
secrets: [env:S]
event: {type: body.type}
api: {base: "https://api.example.com"}
resources:
  a: {triggers: [a], id: body.id, get: "/a/{id}", version: record.v, reconcile: {list: /a, items: data.items, next: meta.next}}
`)
	r := s.Resources["a"].Reconcile
	for answer, want := range map[string]string{
		`{"meta":{"next":"c2"}}`: "c2", `{"meta":{"next":17}}`: "17", `{"meta":{"next":null}}`: "", `{"meta":{"next":""}}`: "", `{}`: "",
	} {
		answer = `{"data":{"items":[]},` + answer[1:]
		if got, err := r.Page(provider.PageRequest{}, "", nil, []byte(strings.Replace(answer, ",}", "}", 1))); err != nil || got.Next != want {
			t.Errorf("after %s comes %q, %v, want %q", answer, got.Next, err, want)
		}
	}
	if _, err := r.Page(provider.PageRequest{}, "", nil, []byte(`{"data":{"items":[]},"meta":{"next":{"a":1}}}`)); err == nil {
		t.Error("an object was taken for a cursor: a list would end early")
	}
	records, err := r.Records([]byte(`{"data":{"items":[{"id":1},{"id":2}]}}`))
	if err != nil || len(records) != 2 || string(records[1]) != `{"id":2}` {
		t.Errorf("Records() = %s, %v", records, err)
	}
	if _, err := r.Records([]byte(`{"data":{}}`)); err == nil {
		t.Error("an answer without its array was taken for an empty page: a list would end early")
	}
}

// What the signature covers decides whether an id can be trusted.
func TestIDSigned(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"stripe, in the body":         {"preset: stripe", true},
		"github, in a bare header":    {"preset: github", false},
		"standard webhooks, in {id}":  {"preset: standard-webhooks", true},
		"miniflux has none":           {"preset: miniflux", false},
		"header in the signed string": {"verify: {scheme: hmac-sha256, header: X-Sig, signed: \"{header:X-Id}.{body}\"}\nevent: {id: header.X-Id, type: body.t}", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := mustSource(t, tt.text+"\nsecrets: [env:S]\n").IDSigned(); got != tt.want {
				t.Errorf("IDSigned() = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestFaultsNameWhatIsWanted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"no scheme":              {"secrets: [env:S]\nevent: {type: body.t}", "verify"},
		"no secret":              {"preset: github", "secrets"},
		"unknown preset":         {"preset: githb\nsecrets: [env:S]", `did you mean "github"?`},
		"unknown resource":       {"preset: github\nsecrets: [env:S]\nresources: [isues]", `did you mean "issue"?`},
		"resources without base": {"preset: miniflux\nsecrets: [env:S]\nresources: [entry]", "api.base"},
		"http to the world":      {"preset: github\nsecrets: [env:S]\napi: {base: \"http://api.example.com\"}", "https"},
		"password in the base":   {"preset: github\nsecrets: [env:S]\napi: {base: \"https://u:p@api.example.com\"}", "credentials"},
		"token and basic":        {"preset: github\nsecrets: [env:S]\napi: {token: env:T, basic: {user: u, password: env:P}}", "api.basic"},
		"bad account":            {"preset: github\nsecrets: [env:S]\naccounts: [\"a/b\"]", "accounts[0]"},
		"header in a record id":  {"preset: github\nsecrets: [env:S]\nresources:\n  x: {triggers: [x], id: header.X-Id, get: \"/x/{id}\", version: record.v}", "body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, tt.text+"\n")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("fault %q doesn't mention %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "u:p@") {
				t.Error("a fault quotes a password")
			}
		})
	}
}

func TestTakesMediaTypes(t *testing.T) {
	t.Parallel()
	s := mustSource(t, "preset: github\nsecrets: [env:S]\n")
	for mediaType, want := range map[string]bool{
		"application/json": true, "application/vnd.example.events.v1+json": true, "text/html": false, "": false,
	} {
		if got := s.Takes(mediaType); got != want {
			t.Errorf("Takes(%q) = %t, want %t", mediaType, got, want)
		}
	}
}

func ExampleSource_ResourceFor() {
	s := &provider.Source{}
	_ = config.Decode("source.yaml", []byte("preset: github\nsecrets: [env:S]\nresources: [issue]\n"), s,
		config.WithLookupEnv(func(string) (string, bool) { return "a secret, long enough", true }))
	name, _, ok := s.ResourceFor("issues.opened")
	fmt.Println(name, ok)
	// Output: issue true
}
