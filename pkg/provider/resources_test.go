package provider_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// recording is a file of testdata/resources: what a webhook and answers look like
// for each resource of a preset. Origin says which of it was checked against what.
type recording struct {
	Origin    string            `json:"origin"`
	Resources map[string]record `json:"resources"`
	Events    *listedEvents     `json:"events"`
}

type record struct {
	Type    string            `json:"type"`    // of the event
	Also    []string          `json:"also"`    // further types of events with the same record
	Trigger jsontext.Value    `json:"trigger"` // its body, or that of the item
	ID      string            `json:"id"`      // that the trigger names
	Path    string            `json:"path"`    // that is asked for
	Answer  jsontext.Value    `json:"answer"`
	Version string            `json:"version"` // of the answer, or hash
	Related map[string]string `json:"related"` // paths, by name
	Gone    jsontext.Value    `json:"gone"`    // an answer that says that the record is gone
	List    jsontext.Value    `json:"list"`    // an answer with a page of which the first record is the same
	Next    string            `json:"next"`    // the cursor of the page behind it
}

func recorded(t *testing.T, preset string) recording {
	t.Helper()
	data, err := os.ReadFile("testdata/resources/" + preset + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if r.Origin == "" {
		t.Error("where the shapes are from is not said")
	}
	return r
}

// Every resource of every preset finds in its provider's webhooks and answers
// what it looks for.
func TestResourcesOfPresetsFitTheirProviders(t *testing.T) {
	t.Parallel()
	for _, name := range provider.PresetNames() {
		p, _ := provider.LookupPreset(name)
		if len(p.Resources) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			records := recorded(t, name).Resources
			for resource, res := range p.Resources {
				t.Run(resource, func(t *testing.T) {
					t.Parallel()
					rec, ok := records[resource]
					if !ok {
						t.Fatal("there is no recorded shape of it")
					}
					checkGet(t, p, res, rec)
					checkList(t, res, rec)
				})
			}
		})
	}
}

var seenAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func checkGet(t *testing.T, p *provider.Preset, res provider.Resource, rec record) {
	t.Helper()
	for _, typ := range append(rec.Also, rec.Type) {
		if !res.Matches(typ) {
			t.Errorf("events of type %s don't trigger it", typ)
		}
	}
	scope := field.Scope{Docs: map[string][]byte{"body": rec.Trigger}, Values: map[string]string{"id": rec.ID}}
	ids, err := res.ID.All(scope)
	if err != nil || len(ids) != 1 || ids[0] != rec.ID {
		t.Fatalf("ids %q, %v, want %s", ids, err, rec.ID)
	}
	ask, err := res.Get.Ask(scope)
	if err != nil || ask.Path != rec.Path || ask.Body != nil && field.Valid(ask.Body) != nil {
		t.Errorf("asks for %s with %s, %v, want %s", ask.Path, ask.Body, err, rec.Path)
	}
	if g := res.Get.GraphQL; g != nil {
		checkQuery(t, g.Query, string(rec.Answer))
	}
	if f, failed := p.API.Failures.In(rec.Answer, ask.Body != nil); failed {
		t.Errorf("the answer is taken for a failure: %s", f)
	}
	shown, err := res.Extract(rec.Answer)
	if err != nil || shown == nil {
		t.Fatalf("record %s, %v", shown, err)
	}
	if id, err := res.RecordID.In(shown); err != nil || id != rec.ID {
		t.Errorf("id of the record %s, %v, want %s", id, err, rec.ID)
	}
	v, err := res.VersionOf(provider.Sight{Record: shown, At: seenAt})
	if err != nil || string(v) != rec.Version && (rec.Version != "hash" || !strings.HasPrefix(string(v), "h2026-03-01T12:00:00")) {
		t.Errorf("version %s, %v, want %s", v, err, rec.Version)
	}
	expected, err := res.Expected(scope)
	if err != nil || (expected == "") != (len(res.Expect) == 0) {
		t.Errorf("expects %q, %v", expected, err)
	}
	if behind, err := provider.Behind(v, expected); err != nil || behind {
		t.Errorf("the record of version %s is taken for older than %s, %v", v, expected, err)
	}
	scope.Docs["record"] = shown
	for name, rel := range res.Related {
		if ask, err := rel.Get.Ask(scope); err != nil || ask.Path != rec.Related[name] {
			t.Errorf("related %s: asks for %s, %v, want %s", name, ask.Path, err, rec.Related[name])
		}
	}
	if rec.Gone == nil {
		return
	}
	if f, failed := p.API.Failures.In(rec.Gone, ask.Body != nil); failed && f.Class == provider.FailureGone {
		return
	}
	if shown, err := res.Extract(rec.Gone); err != nil || shown != nil {
		t.Errorf("what is gone is taken for %s, %v", shown, err)
	}
}

func checkList(t *testing.T, res provider.Resource, rec record) {
	t.Helper()
	if (res.Reconcile == nil) != (rec.List == nil) {
		t.Fatal("want a recorded list if, and only if, it is reconciled")
	}
	if res.Reconcile == nil {
		return
	}
	page, err := res.Reconcile.Page(provider.PageRequest{}, "https://api.example.com", nil, rec.List)
	if err != nil || len(page.Records) == 0 {
		t.Fatalf("records %s, %v", page.Records, err)
	}
	records := page.Records
	if id, err := res.RecordID.In(records[0]); err != nil || id != rec.ID {
		t.Errorf("id in the list %s, %v, want %s", id, err, rec.ID)
	}
	got, err := res.Extract(rec.Answer)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := mark(t, res, records[0], seenAt), mark(t, res, got, seenAt.Add(time.Hour)); a != b {
		t.Errorf("version in the list %s, in an answer %s: each run would send the record again", a, b)
	}
	if q := res.Reconcile.GraphQL; q != "" {
		checkQuery(t, q, string(rec.List))
	}
	if !res.Reconcile.Next.Counted() && page.Next != rec.Next {
		t.Errorf("next page %q, want %q", page.Next, rec.Next)
	}
}

func mark(t *testing.T, res provider.Resource, record []byte, at time.Time) string {
	t.Helper()
	v, err := res.VersionOf(provider.Sight{Record: record, At: at})
	if err != nil {
		t.Fatal(err)
	}
	return event.Version.Mark(v)
}

var (
	arguments = regexp.MustCompile(`\([^)]*\)`)
	names     = regexp.MustCompile(`[A-Za-z]+`)
)

// checkQuery finds fields that a query asks for and a recorded answer doesn't have.
func checkQuery(t *testing.T, query, answer string) {
	t.Helper()
	if strings.Count(query, "{") != strings.Count(query, "}") {
		t.Error("braces of the query are not balanced")
	}
	for _, name := range names.FindAllString(arguments.ReplaceAllString(query, ""), -1) {
		if name != "query" && !strings.Contains(answer, `"`+name+`":`) {
			t.Errorf("the query asks for %s, which the recorded answer doesn't have", name)
		}
	}
}
