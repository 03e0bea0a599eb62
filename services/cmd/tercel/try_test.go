package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// tryFile is a pipeline file whose API is the shop; %s is its address.
const tryFile = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: ["file:secret"]
    event: {id: header.X-Delivery, type: body.type}
    drop: '.trigger.test == true'
    api: {base: "%s", allow_private: true}
    resources:
      order:
        triggers: [order.*]
        id: body.ids[]
        get: /orders/{id}
        version: record.version
  batches:
    verify: {scheme: none, insecure: true}
    event: {split: body.events, id: item.id, type: item.kind}
destinations:
  all: {files: {dir: all}}
  some: {files: {dir: some}, when: '.record.version > 1', map: '{v: .record.version}', subscribe: ["orders.>"]}
`

// writeTry writes the file, with its secret beside it, and returns its path.
func writeTry(t *testing.T, api string) string {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	text := strings.NewReplacer("%s", api, "file:secret", "file:"+secret).Replace(tryFile)
	for path, content := range map[string]string{secret: liveSecret, filepath.Join(dir, "tercel.yaml"): text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "tercel.yaml")
}

func beside(t *testing.T, config, name, content string) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(config), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// captured is a signed request as it came over the wire.
func captured(t *testing.T, config, body string, at time.Time) string {
	t.Helper()
	file, err := pipeline.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	src := file.Sources["orders"]
	req, err := http.NewRequest(http.MethodPost, "http://localhost/v1/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = src.Verifier().Sign(src.Keys()[0], []byte(body), "", at)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Delivery", "d-1")
	var b strings.Builder
	if err := req.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tryJSON runs try with --json, which must end with that code.
func tryJSON(t *testing.T, code int, stdin string, args ...string) tried {
	t.Helper()
	o := tercel(t, stdin, append([]string{"try", "--json"}, args...)...)
	got := tried{triedEvent: &triedEvent{}}
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || o.code != code {
		t.Fatalf("exit %d, want %d: %v\n%s%s", o.code, code, err, o.out, o.err)
	}
	return got
}

// What try says becomes of a sample is what a running pipeline makes of it.
func TestTryAgreesWithThePipeline(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	s.put("1", 2)
	p := startLive(t, s, liveOptions{source: "    drop: .trigger.test == true\n"})
	body := `{"type":"order.paid","id":"1"}`
	id := p.send("d-1", body)
	until(t, "the event is delivered", func() bool {
		return p.status(id) == delivered
	})
	w := p.trace(id)
	config := strings.ReplaceAll(p.config, "\\", "/")
	got := tryJSON(t, boot.OK, captured(t, config, body, time.Now()), "-c", config, "--source", "orders", "--fetch", "-")
	if got.ID != id || got.Type != "order.paid" || got.RecordID != "1" || w.GetSteps()[3].GetText() != "order 1, version "+got.Version {
		t.Errorf("tried %+v, the pipeline had %s and %+v", got.triedEvent, id, w.GetSteps())
	}
	test := `{"type":"order.paid","id":"1","test":true}`
	if got := tryJSON(t, boot.OK, captured(t, config, test, time.Now()), "-c", config, "--source", "orders", "--fetch", "-"); !got.Dropped {
		t.Errorf("tried %+v, want it dropped", got.triedEvent)
	}
}

func TestTryShowsEachStep(t *testing.T) {
	t.Parallel()
	shop := startShop(t)
	config := writeTry(t, shop.srv.URL)
	shop.put("7", 3)
	flags := []string{"-c", config, "--source", "orders"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	request := captured(t, config, `{"type":"order.paid","ids":["7"]}`, at)
	record := beside(t, config, "7.json", `{"id":"7","version":3,"price":1.10}`+"\n")
	with := func(more ...string) []string { return append(append([]string{}, flags...), more...) }

	got := tryJSON(t, boot.OK, request, with("--at", "2026-03-01T12:00:01Z", "--record", record, "-")...)
	if compacted(got.Destinations["some"].Payload) != `{"v":3}` || !got.Destinations["all"].Delivered || got.ID == "" ||
		len(got.Requests) != 1 || got.Requests[0] != "GET /orders/7" || got.Error != "" {
		t.Errorf("tried %+v", got.triedEvent)
	}
	if body := compacted(got.Body); !strings.Contains(body, `"record":{"id":"7","version":3,"price":1.10}`) {
		t.Errorf("body %s, want the record as it is spelled", body)
	}
	// Its time has passed, and its signature is not looked at if that is asked for.
	if got := tryJSON(t, boot.Failed, request, with("--record", record, "-")...); got.Accepted || got.ID != "" {
		t.Errorf("an old request is accepted: %+v", got)
	}
	got = tryJSON(t, boot.OK, request, with("--unsigned", "--record", record, "-")...)
	if !got.Accepted || !strings.Contains(string(mustJSON(t, got.Steps)), `{"name":"signature","result":"skipped"`) {
		t.Errorf("unsigned: %+v", got)
	}
	// Without an answer, the way ends at the request.
	got = tryJSON(t, boot.OK, request, with("--unsigned", "-")...)
	if got.Error != "order 7: GET /orders/7: no answer is given" || len(got.Destinations) != 0 {
		t.Errorf("without an answer: %+v", got.triedEvent)
	}
	// The API itself.
	got = tryJSON(t, boot.OK, `{"ids":["7"]}`, with("--body", "--type", "order.paid", "--fetch", "-")...)
	if got.Type != "order.paid" || got.RecordID != "7" || !got.Destinations["some"].Delivered {
		t.Errorf("fetched: %+v", got.triedEvent)
	}
	// What fails is the sample's answer.
	beside(t, config, "7.json", `{"id":"8"}`)
	got = tryJSON(t, boot.Failed, request, with("--unsigned", "--record", record, "-")...)
	if got.Error != "order 7: answer is about another record" {
		t.Errorf("with another's record: %+v", got.triedEvent)
	}
	beside(t, config, "7.json", `{"id":"7","version":"x"}`)
	if got = tryJSON(t, boot.OK, request, with("--unsigned", "--record", record, "-")...); !got.Destinations["some"].Delivered {
		t.Errorf("a text is more than a number in jq: %+v", got.triedEvent)
	}
}

func compacted(v jsontext.Value) string {
	_ = v.Compact() // it was decoded, so it is valid
	return string(v)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Several events of a request go their own ways.
func TestTryListsSeveralEvents(t *testing.T) {
	t.Parallel()
	config := writeTry(t, "http://127.0.0.1:9")
	got := tryJSON(t, boot.OK, `{"events":[{"id":"a","kind":"x.y"},{"id":"b","kind":"z"}]}`, "-c", config, "--source", "batches", "--body", "-")
	if len(got.Events) != 2 || got.Events[1].ID == got.Events[0].ID || got.Events[1].Type != "z" || got.ID != "" {
		t.Errorf("split: %s", mustJSON(t, got))
	}
	got = tryJSON(t, boot.OK, `{"type":"order.paid","ids":["1","2"]}`, "-c", config, "--source", "orders", "--body",
		"--record", "/orders/1="+beside(t, config, "1.json", `{"id":"1","version":1}`), "--record", "/orders/2=", "-")
	if len(got.Events) != 2 || got.Events[0].RecordID != "1" || got.Events[0].Destinations["some"].Why != "its when says false" || !got.Events[1].Deleted {
		t.Errorf("several records: %s", mustJSON(t, got))
	}
	out := tercel(t, `{"type":"order.paid","ids":["1"],"test":true}`, "try", "-c", config, "--source", "orders", "--body", "-")
	for _, want := range []string{"skipped  signature", "accepted, if its signature were right", "dropped  sources.orders.drop says true"} {
		if !strings.Contains(out.out, want) || out.code != boot.OK {
			t.Errorf("exit %d, no %q in\n%s%s", out.code, want, out.out, out.err)
		}
	}
}

func TestTryRefusesWhatCannotBeTried(t *testing.T) {
	t.Parallel()
	config := writeTry(t, "http://127.0.0.1:9")
	for name, x := range map[string]struct {
		args string
		code int
		want string
	}{
		"no such source":         {"--source nope --body -", boot.Failed, `no source "nope"; want one of batches, orders`},
		"headers of a request":   {"--source orders --header A=b -", boot.Usage, "--body"},
		"fetched and given":      {"--source orders --fetch --record x -", boot.Usage, "exclude each other"},
		"a bad time":             {"--source orders --at noon -", boot.Usage, "want a time"},
		"no file":                {"--source orders --body --record none.json -", boot.Failed, "none.json"},
		"no request":             {"--source orders -", boot.Failed, "not HTTP/1.1"},
		"a body that is no JSON": {"--source orders --body -", boot.Failed, ""},
	} {
		o := tercel(t, "nothing of that kind", append([]string{"try", "-c", config}, strings.Fields(x.args)...)...)
		if o.code != x.code || !strings.Contains(o.err, x.want) {
			t.Errorf("%s: exit %d, %s, want %d and %q", name, o.code, o.err, x.code, x.want)
		}
	}
}
