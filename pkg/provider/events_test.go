package provider_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// listedEvents is what a webhook looks like, and a page of the source's list of
// events whose first is the same.
type listedEvents struct {
	Headers map[string]string `json:"headers"` // of the webhook
	Webhook jsontext.Value    `json:"webhook"` // its body
	List    jsontext.Value    `json:"list"`    // an answer
	Link    string            `json:"link"`    // its header of that name
	ID      string            `json:"id"`      // of the first event
	Type    string            `json:"type"`
	Time    string            `json:"time"`
	Next    string            `json:"next"` // the position of the page behind it
	// Get is where the rest of the first event is had, and Answer the rest.
	Get       string         `json:"get"`
	Answer    jsontext.Value `json:"answer"`
	Redeliver string         `json:"redeliver"`
}

// hookList is where a preset's list is whose path is each user's own.
const hookList = "/repos/north/widgets/hooks/7/deliveries"

// A preset finds the same event in a webhook and in the source's list of events.
func TestEventsOfPresetsFitTheirProviders(t *testing.T) {
	t.Parallel()
	found := 0
	for _, name := range provider.PresetNames() {
		p, _ := provider.LookupPreset(name)
		if p.Events == nil {
			continue
		}
		found++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := recorded(t, name).Events
			if rec == nil {
				t.Fatal("there is no recorded shape of its events")
			}
			checkWebhook(t, p, rec)
			checkListed(t, p.Events, rec)
		})
	}
	if found < 2 {
		t.Errorf("%d presets list events, want Stripe's and GitHub's at least", found)
	}
}

func checkWebhook(t *testing.T, p *provider.Preset, rec *listedEvents) {
	t.Helper()
	header := http.Header{}
	for name, value := range rec.Headers {
		header.Set(name, value)
	}
	scope := field.Scope{Docs: map[string][]byte{"body": rec.Webhook}, Header: header.Get}
	if id, err := p.Event.ID.First(scope); err != nil || id != rec.ID {
		t.Errorf("id of the webhook %q, %v, want %s", id, err, rec.ID)
	}
	if typ, err := p.Event.Type.First(scope); err != nil || typ != rec.Type {
		t.Errorf("type of the webhook %q, %v, want %s", typ, err, rec.Type)
	}
}

func checkListed(t *testing.T, e *provider.Events, rec *listedEvents) {
	t.Helper()
	ask, err := e.Request(hookList, provider.Place{From: seenAt, To: seenAt})
	if err != nil {
		t.Fatal(err)
	}
	page, err := e.Page(ask, "https://api.github.com", http.Header{"Link": {rec.Link}}, rec.List)
	if err != nil || len(page.Records) < 2 || page.Next != rec.Next {
		t.Fatalf("%d events, next %s, %v, want two and then %s", len(page.Records), page.Next, err, rec.Next)
	}
	listed := page.Records[0]
	if id, err := e.ID.In(listed); err != nil || id != rec.ID {
		t.Errorf("id in the list %q, %v, want %s", id, err, rec.ID)
	}
	if typ, err := e.Type.In(listed); err != nil || typ != rec.Type {
		t.Errorf("type in the list %q, %v, want %s", typ, err, rec.Type)
	}
	if _, err := e.Time.In(listed); err != nil {
		t.Errorf("time in the list: %v", err)
	}
	scope := field.Scope{Docs: map[string][]byte{"record": listed}}
	whole := listed
	for _, x := range []struct {
		path provider.ListedPath
		want string
	}{{e.Get, rec.Get}, {e.Redeliver.Path, rec.Redeliver}} {
		if x.path.IsZero() != (x.want == "") {
			t.Errorf("a path where none was recorded, or the other way round: want %q", x.want)
		} else if got, err := x.path.Fill(hookList+"?per_page=3", scope); x.want != "" && (err != nil || got != x.want) {
			t.Errorf("path %q, %v, want %s", got, err, x.want)
		}
	}
	if rec.Answer != nil {
		whole = rec.Answer
	}
	body, err := e.BodyIn(whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := compacted(t, body), compacted(t, rec.Webhook); !bytes.Equal(got, want) {
		t.Errorf("body %s, want that of the webhook, %s", got, want)
	}
}

func compacted(t *testing.T, v jsontext.Value) []byte {
	t.Helper()
	v = v.Clone()
	if err := v.Compact(); err != nil {
		t.Fatal(err)
	}
	return v
}

const eventsSource = `
preset: stripe
secrets: [env:S]
resources: [invoice]
`

func TestEventsOfASource(t *testing.T) {
	t.Parallel()
	s := mustSource(t, eventsSource)
	if s.Events != nil {
		t.Error("events are listed although the file doesn't say so")
	}
	s = mustSource(t, eventsSource+"events: {every: 5m, redeliver: \"/v1/events/{record.id}/retry\"}\n")
	e := s.Events
	if e == nil || e.Every.Interval.Minutes() != 5 || e.Redeliver.Wait.Seconds() != 30 || e.Prefer != provider.PreferRepair || e.Order != provider.Descending {
		t.Fatalf("events %+v, want the preset's with what the file lays over them", e)
	}
	p, _ := provider.LookupPreset("stripe")
	if p.Events.Every.Interval.Hours() != 1 {
		t.Error("what a source lays over it has reached the preset")
	}
	for typ, want := range map[string]bool{"invoice.paid": true, "customer.created": false, "invoice.": false} {
		if s.Wants(typ) != want {
			t.Errorf("Wants(%s) = %t, want %t", typ, !want, want)
		}
	}
	s = mustSource(t, eventsSource+"events: {types: [customer.*]}\n")
	if s.Wants("invoice.paid") || !s.Wants("customer.created") {
		t.Error("types don't say what is wanted")
	}
	s = mustSource(t, "preset: stripe\nsecrets: [env:S]\nevents: {}\n")
	if !s.Wants("anything") {
		t.Error("a source without resources wants all")
	}
}

func TestFaultsOfEvents(t *testing.T) {
	t.Parallel()
	const plain = `
verify: {scheme: hmac-sha256, header: X-Signature}
secrets: [env:S]
api: {base: "https://api.example.com"}
event: {id: body.id, type: body.type}
`
	const list = "list: /events, id: record.id, type: record.type, time: record.at"
	for name, tt := range map[string]struct{ source, want string }{
		"fits":             {plain + "events: {" + list + "}", ""},
		"no list":          {plain + "events: {id: record.id, type: record.type, time: record.at}", "events.list"},
		"the user's list":  {"preset: github\nsecrets: [env:S]\nevents: {}", "events.list"},
		"nothing":          {plain + "events: {list: /events}", "events.id"},
		"no time":          {plain + "events: {list: /events, id: record.id, type: record.type}", "events.time"},
		"no id of webhook": {strings.Replace(plain, "id: body.id, ", "", 1) + "events: {" + list + "}", "event.id"},
		"no base":          {strings.Replace(plain, "api: {base: \"https://api.example.com\"}\n", "", 1) + "events: {" + list + "}", "api.base"},
		"no path":          {plain + "events: {" + list + ", get: events}", "events.get"},
		"another root":     {plain + "events: {" + list + ", get: \"/{body.id}\"}", "events.get"},
		"half a resource":  {plain + "events: {" + list + ", resource: order}", "events.resource"},
		"no such resource": {plain + "events: {" + list + ", resource: order, record_id: record.order}", "events.resource"},
		"a body and a resource": {
			plain + "events: {" + list + ", resource: order, record_id: record.order, body: data}", "events.resource",
		},
		"nobody to ask":      {plain + "events: {" + list + ", prefer: redelivery}", "events.redeliver"},
		"endless":            {plain + "events: {" + list + ", redeliver: {path: \"./{record.id}\", wait: 10h}}", "events.redeliver"},
		"other sides":        {plain + "events: {" + list + ", against: [ledger, \"destination:x\"]}", "events.against"},
		"deletes":            {plain + "events: {" + list + ", deletes: {}}", "events.deletes"},
		"the name is taken":  {plain + "events: {" + list + "}\nresources: {events: {triggers: [a], id: body.id, get: \"/{id}\", version: record.v}}", "resources.events"},
		"got by the trigger": {plain + "events: {" + list + ", resource: a, record_id: record.a}\nresources: {a: {triggers: [a], id: body.id, get: \"/{body.id}\", version: record.v}}", "events.resource"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(tt.source)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Decode() = %v, want a fault of %q", err, tt.want)
			}
		})
	}
}
