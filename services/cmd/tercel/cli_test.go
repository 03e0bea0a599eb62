package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// outcome is what a command printed and how it ended.
type outcome struct {
	code     int
	out, err string
}

// tercel runs one command line as main would.
func tercel(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code := run(&app{ctx: ctx, in: strings.NewReader(stdin), out: &out, err: &errs}, args)
	return outcome{code, out.String(), errs.String()}
}

// ok runs a command that must end well and returns what it printed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	o := tercel(t, "", args...)
	if o.code != boot.OK {
		t.Fatalf("tercel %s: exit %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o.out
}

// reconciled returns the report of a run, which has to wait for one that the
// schedule has begun.
func reconciled(t *testing.T, args ...string) *adminv1.ReconciliationReport {
	t.Helper()
	v := &adminv1.ReconciliationReport{}
	until(t, "no other run is under way", func() bool {
		o := tercel(t, "", append(args, "--json")...)
		if strings.Contains(o.err, "already running") {
			return false
		}
		if o.code != boot.OK || protojson.Unmarshal([]byte(o.out), v) != nil {
			t.Fatalf("tercel %s --json: exit %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
		}
		return true
	})
	return v
}

func TestEveryCommandHelpsWithAnExample(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"demo", "up", "health", "simulate", "init", "check", "verify", "try", "test", "listen", "event trace", "dlq list", "dlq show", "dlq replay",
		"reconcile run", "reconcile status", "reconcile report", "reconcile pause", "reconcile resume", "reconcile reset", "destination pause", "destination resume", "status", "contract jsonschema", "contract asyncapi", "contract openapi", "accounts set", "accounts list",
		"accounts remove",
		"backfill start", "backfill status", "backfill pause", "backfill resume", "backfill cancel",
		"event list", "event show", "event replay", "event refused", "dlq groups", "dlq edit", "dlq discard", "source list", "source pause", "source resume",
		"destination list", "audit list", "completion",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			out := ok(t, append(strings.Fields(args), "--help")...)
			if !strings.Contains(out, "Example") || !strings.Contains(out, "tercel "+args) {
				t.Errorf("no example in:\n%s", out)
			}
		})
	}
}

func TestMistakesOnTheCommandLineExit2(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ args, want string }{
		"unknown command":    {"fly", `Run "tercel --help"`},
		"flags' help":        {"event trace", `Run "tercel event trace --help"`},
		"nothing to verify":  {"verify --source s", "--refused"},
		"part of a command":  {"dlq", `Run "tercel dlq --help"`},
		"unknown flag":       {"check --colour", "--colour"},
		"missing argument":   {"dlq show", "<n>"},
		"no number":          {"dlq show x", "x"},
		"nothing to replay":  {"dlq replay", "--all"},
		"no events chosen":   {"event replay", "--source"},
		"nothing to discard": {"dlq discard --reason r", "--group"},
		"no reason":          {"dlq discard 1", "--reason"},
		"no patch":           {"dlq edit 1", "--patch"},
		"an address of no":   {"status --api ftp://planted:planted@host", "--api: want http://HOST:PORT"},
		"too short a look":   {"status --watch --interval 1ms", "at least 100ms"},
		"no page at all":     {"dlq list --limit 0", "at least 1"},
		"no time":            {"event list --since soon", "--since soon: want a date"},
		"both ways":          {"dlq replay 1 --all", "--all"},
		"bad time":           {"verify --source s --at noon -", "2026-03-01T12:00:00Z"},
		"bad age":            {"listen --since yesterday", "--since"},
		"verify needs where": {"verify -", "--source"},
		"bad demo shares":    {"demo --drop 2", "drop"},
		"a demo of nothing":  {"demo --events 0", "at least 1"},
		"a reset to nowhere": {"reconcile reset orders", "--to TIME or --beginning"},
		"a reset to both":    {"reconcile reset orders --beginning --to 2026-11-01", "--to TIME or --beginning"},
		"of one source":      {"reconcile report --inside --source orders", "--inside: want it without --source"},
		"a reset to no time": {"reconcile reset orders --to noon", "how long ago"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := tercel(t, "", strings.Fields(tt.args)...)
			if o.code != boot.Usage || !strings.Contains(o.err, tt.want) || o.out != "" {
				t.Errorf("exit %d, out %q, err %q; want exit 2 and a message about %q", o.code, o.out, o.err, tt.want)
			}
		})
	}
}

func TestHelpIsACommandToo(t *testing.T) {
	t.Parallel()
	if got, want := ok(t, "help"), ok(t, "--help"); got != want {
		t.Errorf("tercel help prints\n%s", got)
	}
	if got, want := ok(t, "help", "dlq", "list"), ok(t, "dlq", "list", "--help"); got != want {
		t.Errorf("tercel help dlq list prints\n%s", got)
	}
}

// Whoever can't be asked gets no question but what to say instead.
func TestReplayOfSeveralNeedsATerminalOrYes(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	for name, in := range map[string]io.Reader{"a pipe": strings.NewReader("y\n"), "/dev/null": null} {
		var e exitCode
		err := confirm(&app{in: in, err: io.Discard}, "Replay 2 dead letters?")
		if !errors.As(err, &e) || e.code != boot.Usage || !strings.Contains(e.message, "--yes") {
			t.Errorf("from %s: %v, want a usage error that names --yes", name, err)
		}
	}
}

// bucketConfig writes a pipeline file with a source whose accounts are in a bucket.
func bucketConfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	secret, path := filepath.Join(dir, "secret"), filepath.Join(dir, "tercel.yaml")
	text := fmt.Sprintf(`
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{body}"}
    secrets: ["file:%[1]s"]
    event: {id: header.X-Delivery, type: body.type}
    accounts: {bucket: tercel_accounts}
seal_keys: ["file:%[1]s"]
`, secret)
	writeFile(t, secret, liveSecret)
	writeFile(t, path, text)
	return path
}

func TestAddressesAreShownWithoutTheirCredentials(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"nats://127.0.0.1:4222":                        "nats://127.0.0.1:4222",
		"nats://planted@a:4222":                        "nats://a:4222",
		"nats://u:planted@a:4222, tls://u:planted@b:1": "nats://a:4222,tls://b:1",
		"u:planted@a:4222":                             "nats://a:4222",
		"nats://u:planted%zz@a":                        "[not a URL]",
		"nats://u:planted/x@a":                         "[not a URL]",
	} {
		if got := withoutToken(urls); got != want {
			t.Errorf("withoutToken(%q) = %q, want %q", urls, got, want)
		}
	}
	for args, want := range map[string]string{
		"accounts list orders --nats nats://u:planted%zz@127.0.0.1:1 -c " + bucketConfig(t): "nats://HOST:PORT",
		"status --api http://u:planted%zz@127.0.0.1:1":                                      "http://HOST:PORT",
		"status --api http://127.0.0.1:1/?token=planted":                                    "http://HOST:PORT",
	} {
		o := tercel(t, "", strings.Fields(args)...)
		if o.code == boot.OK || strings.Contains(o.err, "planted") || !strings.Contains(o.err, want) {
			t.Errorf("%s: exit %d, %q", args, o.code, o.err)
		}
	}
}

func TestNoPipelineIsSaidSo(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"status", "status --watch", "dlq list", "event trace x", "listen", "reconcile status", "verify --source s --refused 1",
		"reconcile report --since 7d", "event refused --since 2026-01-31", "listen --since 2026-01-31T08:00:00Z",
	} {
		o := tercel(t, "", append(strings.Fields(args), "--api", "http://127.0.0.1:1")...)
		if o.code != boot.Failed || !strings.Contains(o.err, "no admin API answers at http://127.0.0.1:1: ") || !strings.Contains(o.err, `"tercel up"`) {
			t.Errorf("%s: exit %d, err %q; want exit 1, the address, and how to start it", args, o.code, o.err)
		}
	}
}

// What init writes is what check takes, also once its proposals are taken up.
func TestInitWritesAFileThatChecks(t *testing.T) {
	for _, name := range []string{"ORDERS", "GITHUB", "STRIPE", "STANDARD_WEBHOOKS", "MINIFLUX", "SQUARE", "META", "NOTION"} {
		t.Setenv(name+"_WEBHOOK_SECRET", "whsec_c2VjcmV0LW9mLWVub3VnaC1sZW5ndGg=")
		t.Setenv(name+"_HANDSHAKE", "a token")
		t.Setenv(name+"_API_TOKEN", "token")
	}
	proposal := regexp.MustCompile(`(?m)^( *)# ((api|handshakes|resources|destinations|warehouse|archive|order|triggers|id|get|version|reconcile):.*)$`)
	deeper := regexp.MustCompile(`(?m)^( *)# ( +[a-z]+:.*)$`)
	for _, preset := range []string{"", "github", "stripe", "standard-webhooks", "miniflux", "square", "meta", "notion"} {
		path := filepath.Join(t.TempDir(), "tercel.yaml")
		args := []string{"init", "-o", path}
		if preset != "" {
			args = append(args, "--preset", preset)
		}
		ok(t, args...)
		ok(t, "check", "-c", path)
		if o := tercel(t, "", args...); o.code != boot.Failed || !strings.Contains(o.err, "--force") {
			t.Errorf("init over a file: exit %d, %q; want a refusal that names --force", o.code, o.err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = deeper.ReplaceAll(proposal.ReplaceAll(text, []byte("$1$2")), []byte("$1$2"))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := pipeline.Load(path)
		if err != nil {
			t.Errorf("preset %q with its proposals:\n%v\n%s", preset, err, text)
			continue
		}
		if len(file.Destinations) != 2 {
			t.Errorf("preset %q: %d destinations of the proposals were read, want 2:\n%s", preset, len(file.Destinations), text)
		}
		for name, src := range file.Sources {
			if src.API.Base == "" || src.API.Token.IsZero() == (len(src.API.Headers) == 0) {
				t.Errorf("preset %q: source %s has no API of the proposals:\n%s", preset, name, text)
			}
			for shake, h := range src.Handshakes {
				if !h.Check.IsZero() && len(h.Secrets) == 0 || !h.Brings.IsZero() && h.SaveTo == "" {
					t.Errorf("preset %q: handshake %s has nothing of the proposals:\n%s", preset, shake, text)
				}
			}
		}
	}
}

// init tells how much a provider's webhooks alone can be relied on.
func TestInitTellsHowAProviderDelivers(t *testing.T) {
	t.Parallel()
	want := "# How it delivers: an answer is waited for 15s; retries: 8 attempts at growing intervals, for 28h."
	if o := tercel(t, "", "init", "-o", "-", "--preset", "clerk"); !strings.Contains(o.out, want) {
		t.Errorf("init printed\n%s\nwant %s in it", o.out, want)
	}
}

// verify knows handshakes, which are answered and not stored.
func TestVerifyKnowsHandshakes(t *testing.T) {
	t.Setenv("DROPBOX_WEBHOOK_SECRET", "a secret of enough length")
	path := filepath.Join(t.TempDir(), "tercel.yaml")
	ok(t, "init", "-o", path, "--preset", "dropbox")
	for query, want := range map[string]string{"?challenge=a": "answered with 200 as handshake challenge; nothing would be stored", "": "refused with 400"} {
		o := tercel(t, "GET /v1/dropbox"+query+" HTTP/1.1\nHost: a\n\n", "verify", "-c", path, "--source", "dropbox", "-")
		if (o.code == boot.OK) != (query != "") || !strings.Contains(o.out, want) {
			t.Errorf("%q: exit %d, %s%s, want %q", query, o.code, o.out, o.err, want)
		}
	}
}

func TestCheckListsEveryFault(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tercel.yaml")
	if err := os.WriteFile(path, []byte("sources:\n  s:\n    preset: githup\n    secret: [env:X]\nstreams: {replicas: two}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := tercel(t, "", "check", "-c", path)
	for _, want := range []string{path + ":3:13: ", `did you mean "github"?`, path + ":4:5: ", `did you mean "secrets"?`, "streams.replicas"} {
		if o.code != boot.Failed || !strings.Contains(o.err, want) {
			t.Errorf("exit %d, err %q; want exit 1 and %s", o.code, o.err, want)
		}
	}
	var answer struct {
		OK     bool           `json:"ok"`
		Faults []config.Fault `json:"faults"`
	}
	o = tercel(t, "", "check", "-c", path, "--json")
	if err := json.Unmarshal([]byte(o.out), &answer); err != nil || answer.OK || len(answer.Faults) < 3 || answer.Faults[0].Line != 3 {
		t.Errorf("--json gave %s (%v)", o.out, err)
	}
}

// An operator's day: an event is traced, one that fails is found among the dead
// letters, mended and replayed, and what no webhook told of is reconciled.
func TestOperatorsDay(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	with := func(args ...string) []string { return append(args, "--api", p.ConsoleURL) }

	s.put("1", 1)
	id := p.send("d-1", `{"type":"order.paid","id":"1"}`)
	until(t, "the event is delivered", func() bool {
		w := p.trace(id)
		return w.GetStatus() == delivered && len(w.GetSteps()) == 5
	})
	if out := ok(t, with("event", "trace", "d-1", "--source", "orders")...); !strings.Contains(out, "delivered") || !strings.Contains(out, "TERCEL_RAW 1") {
		t.Errorf("trace by delivery id:\n%s", out)
	}
	if o := tercel(t, "", with("event", "trace", "nothing")...); o.code != boot.Failed || !strings.Contains(o.err, "nothing") {
		t.Errorf("trace of an unknown id: exit %d, %q", o.code, o.err)
	}

	s.put("2", 1)
	s.breakDown("2", true)
	dead := p.send("d-2", `{"type":"order.paid","id":"2"}`)
	letter := &adminv1.DeadLetter{}
	until(t, "the failing event is a dead letter", func() bool {
		out := ok(t, with("dlq", "list", "--source", "orders", "--json")...)
		return out != "" && protojson.Unmarshal([]byte(out), letter) == nil
	})
	if letter.GetAttributes().GetId() != dead || letter.GetErrorClass() != "permanent" || !strings.Contains(letter.GetMessage(), "422") {
		t.Errorf("dead letter is %v", letter)
	}
	n := fmt.Sprint(letter.GetSequence())
	if shown := told(t, &adminv1.GetDeadLetterResponse{}, with("dlq", "show", n)...); string(shown.GetPayload()) != `{"type":"order.paid","id":"2"}` {
		t.Errorf("payload shown is %s", shown.GetPayload())
	}
	for _, tt := range []struct{ args, patch, want string }{
		{"--patch -", `[{"op":"replace","path":"/id","value":"3"}]`, "kept; a replay sends the edited payload\n"},
		{"--undo --dry-run", "", "a dry run: the edit stays\n"},
		{"--undo", "", "the edit is taken back; a replay sends the payload as it was received\n"},
	} {
		o := tercel(t, tt.patch, with(append([]string{"dlq", "edit", n}, strings.Fields(tt.args)...)...)...)
		if o.code != boot.OK || o.err != tt.want {
			t.Errorf("dlq edit %s: exit %d, %q; want %q", tt.args, o.code, o.err, tt.want)
		}
	}
	if s := p.status(dead); s != deadLetter {
		t.Errorf("trace of the dead letter says %s", s)
	}
	s.breakDown("2", false)
	if o := tercel(t, "", with("dlq", "replay", "--all")...); o.code != boot.OK || o.out != "1/1 sent, 1 delivered, 0 dead again\n" || !strings.Contains(o.err, "plan: 1 messages") {
		t.Errorf("replay: exit %d\n%s%s", o.code, o.out, o.err)
	}
	until(t, "the replayed event is delivered", func() bool {
		return p.status(dead) == delivered
	})
	if o := tercel(t, "", with("dlq", "replay", n)...); o.code != boot.Failed || !strings.Contains(o.err, "--force") {
		t.Errorf("second replay: exit %d, %q; want a refusal that names --force", o.code, o.err)
	}
	if out := ok(t, with("dlq", "list", "--all")...); !strings.Contains(out, "replayed") {
		t.Errorf("the letter is gone from the list, or not marked:\n%s", out)
	}

	s.put("3", 1) // no webhook tells of it
	dry := reconciled(t, with("reconcile", "run", "orders", "order", "--dry-run")...)
	first := reconciled(t, with("reconcile", "run", "orders", "order")...)
	if dry.GetCounts()["missed"]+first.GetCounts()["missed"] < 1 || dry.GetCounts()["repaired"] != 0 || !first.GetComplete() {
		t.Errorf("dry run %v, run %v; want the missed one found, and repaired by the second only", dry, first)
	}
	until(t, "what was missed has been repaired", func() bool {
		r := reconciled(t, with("reconcile", "run", "orders", "order")...)
		return r.GetComplete() && r.GetCounts()["missed"] == 0 && r.GetCounts()["listed"] == 3
	})
	if o := tercel(t, "", with("reconcile", "run", "orders", "ordr")...); o.code != boot.Failed || !strings.Contains(o.err, "order") {
		t.Errorf("unknown resource: exit %d, %q", o.code, o.err)
	}
	if out := ok(t, with("reconcile", "status", "orders")...); !strings.Contains(out, "orders order") {
		t.Errorf("reconcile status:\n%s", out)
	}

	out := ok(t, with("listen", "--since", "1h", "-n", "3", "--json")...)
	if !strings.Contains(out, `"origin":"ORIGIN_WEBHOOK"`) || !strings.Contains(out, `"origin":"ORIGIN_REPLAY"`) && !strings.Contains(out, "RECONCILE") && !strings.Contains(out, "BACKFILL") {
		t.Errorf("listen:\n%s", out)
	}
	var st map[string]json.RawMessage
	if err := json.Unmarshal([]byte(ok(t, with("status", "--json")...)), &st); err != nil {
		t.Fatal(err)
	}
	whole := &adminv1.GetPipelineStatusResponse{}
	if decodeMessage(t, string(st["pipeline"]), whole); len(whole.GetStreams()) != len(topology.Streams(topology.DefaultConfig())) || len(whole.GetStages()) < 3 || whole.GetDeadLetters() != 1 {
		t.Errorf("status is %v", whole)
	}
	resources := &adminv1.GetReconciliationStatusResponse{}
	if decodeMessage(t, string(st["reconciliation"]), resources); len(resources.GetResources()) != 1 {
		t.Errorf("status is %v", resources)
	}
	if out := ok(t, with("status")...); !strings.Contains(out, "enrich orders") || !strings.Contains(out, "deliver local") {
		t.Errorf("status:\n%s", out)
	}
}

// Of a request that holds several events, verify lists them all.
func TestVerifyListsTheEventsOfARequest(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "tercel.yaml")
	text := "sources:\n  s:\n    verify: {scheme: none, insecure: true}\n    event: {split: body.events, id: item.id, type: item.kind}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string][]string{
		`{"events":[{"id":"a","kind":"made"},{"id":"b","kind":"sold"}]}`: {
			"accepted as 2 events; the request itself is kept at tercel.requests.s._", "1/2", "2/2", "tercel.raw.s._.sold", "s:_:b~",
		},
		`{"events":[]}`: {"no event in it"},
	} {
		raw := fmt.Sprintf("POST /v1/s HTTP/1.1\nHost: a\nContent-Type: application/json\nContent-Length: %d\n\n%s", len(body), body)
		o := tercel(t, raw, "verify", "-c", config, "--source", "s", "-")
		for _, w := range want {
			if o.code != boot.OK || !strings.Contains(o.out, w) {
				t.Errorf("exit %d, want %q in\n%s%s", o.code, w, o.out, o.err)
			}
		}
	}
}

// verify says of a captured request what the ingress would say, and why.
func TestVerifyExplainsACapturedRequest(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	p := startLive(t, s, liveOptions{})
	req := p.request("d-1", `{"type":"order.paid","id":"1"}`)
	var raw bytes.Buffer
	if err := req.Write(&raw); err != nil {
		t.Fatal(err)
	}
	good := raw.String()
	for name, tt := range map[string]struct {
		raw, want string
		args      []string
		code      int
	}{
		"genuine":      {raw: good, want: "accepted as event d-1~", code: boot.OK},
		"tampered":     {raw: strings.Replace(good, "paid", "void", 1), want: "signature match", code: boot.Failed},
		"stale":        {raw: good, want: "timestamp window", args: []string{"--at", "2031-01-01T00:00:00Z"}, code: boot.Failed},
		"no signature": {raw: strings.Replace(good, "X-Signature", "X-Other", 1), want: "X-Signature", code: boot.Failed},
		"no request":   {raw: "hello", want: "", code: boot.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			o := tercel(t, tt.raw, append([]string{"verify", "-c", p.config, "--source", "orders", "-"}, tt.args...)...)
			if o.code != tt.code || !strings.Contains(o.out, tt.want) {
				t.Errorf("exit %d, want %d with %q in\n%s%s", o.code, tt.code, tt.want, o.out, o.err)
			}
			if strings.Contains(o.out+o.err, liveSecret) {
				t.Error("the secret was printed")
			}
		})
	}
}

// What init writes matches the schema that an editor holds it against.
func TestInitMatchesTheSchema(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(ok(t, "contract", "jsonschema")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tercel.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("tercel.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, preset := range append(provider.PresetNames(), "") {
		args := []string{"init", "-o", "-"}
		if preset != "" {
			args = append(args, "--preset", preset)
		}
		text, err := yaml.YAMLToJSON([]byte(ok(t, args...)))
		if err != nil {
			t.Fatalf("%s: %v", preset, err)
		}
		file, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = schema.Validate(file)
		}
		if err != nil {
			t.Errorf("init --preset %s: %v", preset, err)
		}
	}
	if o := tercel(t, "", "contract", "jsonschema", "--of", "nothing"); o.code != boot.Usage {
		t.Errorf("contract jsonschema --of nothing: exit %d, want %d", o.code, boot.Usage)
	}
	for _, of := range []string{"preset", "accounts"} {
		if out := ok(t, "contract", "jsonschema", "--of", of); !json.Valid([]byte(out)) {
			t.Errorf("contract jsonschema --of %s printed no JSON", of)
		}
	}
}
