package provider_test

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

func TestSplitFindsTheEvents(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		split, body string
		want        []string
		err         string
	}{
		"the whole body":       {split: "body", body: ` [ {"a":1} , 2,[3 ] ]`, want: []string{`{"a":1}`, "2", "[3 ]"}},
		"below a name":         {split: "body.x.events", body: `{"x":{"events":["é"]}}`, want: []string{`"é"`}},
		"brackets":             {split: "body.events[]", body: `{"events":[1]}`, want: []string{"1"}},
		"inside each element":  {split: "body.list[].it.is", body: `{"list":[{"it":{"is":1}},{"it":{"is": 2 }}]}`, want: []string{"1", "2"}},
		"empty":                {split: "body", body: `[]`},
		"missing":              {split: "body.events", body: `{"event":[]}`, err: "body.events: no value"},
		"null":                 {split: "body.events", body: `{"events":null}`, err: "body.events: not an array"},
		"not in every element": {split: "body[].it", body: `[{"it":1},{"is":2}]`, err: "body[].it: element 2 of 2: no value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := provider.ParseSplit(tt.split)
			if err != nil {
				t.Fatal(err)
			}
			items, err := s.Items([]byte(tt.body))
			if got := string(bytes.Join(items, []byte("\n"))); got != strings.Join(tt.want, "\n") || fmt.Sprint(err) != cmp.Or(tt.err, "<nil>") {
				t.Errorf("Items() = %q, %v, want %q, %s", items, err, tt.want, tt.err)
			}
		})
	}
}

func TestSplitIsCheckedWhereItIsWritten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ event, want string }{
		"no root":                  {"{split: events, type: item.a}", "want a path that begins with body"},
		"two arrays":               {"{split: 'body.a[].b[]', type: item.a}", "at most one []"},
		"a dot alone":              {"{split: 'body.', type: item.a}", "want a path that begins with body"},
		"one id for all":           {"{split: body.events, id: body.id, type: item.a}", "all events of a request would have the same id"},
		"item without split":       {"{type: item.a}", "without event.split there is no item"},
		"signed items without":     {"{type: body.a, signed_items: true}", "event.split beside it"},
		"an account for each":      {"{split: body, type: item.a, account: item.b}", "all events of a request are of one account"},
		"signed items and request": {"{split: body, type: item.a, signed_items: true}", "verify covers the whole body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "verify: {scheme: hmac-sha256, header: X-Signature}\nsecrets: [env:S]\nevent: " + tt.event + "\n"
			err := config.Decode("source.yaml", []byte(text), &provider.Source{}, config.WithLookupEnv(func(string) (string, bool) {
				return "a secret of enough length", true
			}))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "source.yaml:3:") {
				t.Errorf("Decode() = %v, want a fault of line 3 with %q", err, tt.want)
			}
		})
	}
}

func TestEncodingsAreCheckedWhereTheyAreWritten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ verify, request, want string }{
		"another encoding":      {"{scheme: hmac-sha256, header: X-Signature}", "{encodings: [br]}", "gzip"},
		"signed without":        {"{scheme: hmac-sha256, header: X-Signature}", "{signed: decoded}", "request.encodings beside it"},
		"signature in the body": {"{scheme: hmac-sha256, signature: body.mac, signed: '{json:id}', partial_body: true}", "{encodings: [gzip]}", "signed: decoded beside it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "verify: " + tt.verify + "\nsecrets: [env:S]\nevent: {type: body.a}\nrequest: " + tt.request + "\n"
			err := config.Decode("source.yaml", []byte(text), &provider.Source{}, config.WithLookupEnv(func(string) (string, bool) {
				return "a secret of enough length", true
			}))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "source.yaml:4:") {
				t.Errorf("Decode() = %v, want a fault of line 4 with %q", err, tt.want)
			}
		})
	}
}

// What is found in JSON that has passed field.Valid are parts of it which are
// JSON themselves.
func FuzzSplit(f *testing.F) {
	f.Add("body.events", []byte(`{"events":[1,{"a":[]}]}`))
	f.Add("body[].a.0", []byte(` [{"a":["x"]}]`))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		s, err := provider.ParseSplit(text)
		if err != nil || field.Valid(body) != nil {
			return
		}
		items, err := s.Items(body)
		if err != nil {
			return
		}
		for _, item := range items {
			if field.Valid(item) != nil || !bytes.Contains(body, item) {
				t.Errorf("%s of %q gave %q", text, body, item)
			}
		}
	})
}

func ExampleSplit_Items() {
	s, _ := provider.ParseSplit("body.events")
	items, err := s.Items([]byte(`{"events": [{"id": "a"}, {"id": "b"}]}`))
	for _, item := range items {
		fmt.Println(string(item))
	}
	fmt.Println(err)
	// Output:
	// {"id": "a"}
	// {"id": "b"}
	// <nil>
}
