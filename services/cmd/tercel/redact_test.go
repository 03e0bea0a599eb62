package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// What the pipeline file redacts is planted in every payload that a pipeline
// has, a destination answers with what it was sent, and none of it is in anything
// that a person gets to see.
func TestRedactedValuesAreShownNowhere(t *testing.T) {
	t.Parallel()
	const card, email, phone = "4111222233334444", "ada.planted@example.com", "+49 30 5550199"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprintf(w, "not taken: %s", body)
	}))
	t.Cleanup(echo.Close)
	s, log := startShop(t), &text{}
	p := startLive(t, s, liveOptions{
		log:    log,
		source: "    refused: body\n    redact: [body.card.number, 'record.contacts[].email', record.phone, header.X-Customer]\n",
		more: fmt.Sprintf(`destinations:
  echo: {http: {url: %q, secrets: ["file:DIR/signing"], allow_private: true}, map: '{to: .record.phone, all: .}'}
  local: {sqlite: {path: DIR/local.db}}
`, echo.URL),
		before: func(dir string) {
			writeFile(t, filepath.Join(dir, "signing"), "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)))
		},
	})
	record := fmt.Sprintf(`{"id":"1","version":1,"updated_at":%q,"phone":%q,"contacts":[{"email":%q}]}`,
		time.Now().UTC().Add(-time.Minute).Format(time.RFC3339Nano), phone, email)
	s.putRaw("1", record)
	body := fmt.Sprintf(`{"type":"order.paid","id":"1","card":{"number":%q}}`, card)
	p.send("d-1", body)
	s.breakDown("2", true)
	p.send("d-2", fmt.Sprintf(`{"type":"order.paid","id":"2","card":{"number":%q}}`, card))
	until(t, "both are dead letters", func() bool {
		return strings.Count(ok(t, "dlq", "list", "--json", "--api", p.ConsoleURL), "\n") == 2
	})

	forged := p.request("d-3", body)
	forged.Header.Set("X-Signature", strings.Repeat("0", 64))
	forged.Header.Set("X-Customer", email)
	resp, err := http.DefaultClient.Do(forged)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	until(t, "the forged one is kept", func() bool {
		return strings.Contains(ok(t, "event", "refused", "--json", "--api", p.ConsoleURL), "d-3")
	})

	record1 := filepath.Join(t.TempDir(), "record.json")
	writeFile(t, record1, record)
	config := filepath.ToSlash(p.config)
	request := captured(t, config, body, time.Now())
	out := map[string]string{}
	for line, want := range map[string]string{ // with what shows that it was looked at
		"event show d-1": "TERCEL_ENRICHED", "event show d-2": "TERCEL_RAW", "event trace d-1": "dead letter", "event trace 1": "dead letter", "event trace d-2": "dead letter",
		"dlq list": "permanent", "dlq show 1": "payload", "dlq show 2": "payload", "listen --since 1h -n 1": "order", "status": "TERCEL_RAW", "event refused": "d-3", "event refused 1": "X-Customer", "verify --source orders --refused 1 --api " + p.ConsoleURL: "signature match",
		"try --source orders --record " + record1 + " -": "version n0011", "try --source orders -": "version", "verify --source orders -": "accepted",
		"reconcile run orders order": "", "reconcile report orders order": "",
	} {
		for _, form := range []string{"", " --json"} {
			args := strings.Fields(line + form)
			stdin := ""
			switch args[0] {
			case "try", "verify":
				if strings.Contains(line, "--refused") {
					break
				}
				args, stdin = append(args, "-c", config), request
			default:
				args = append(args, "--api", p.ConsoleURL)
			}
			o := tercel(t, stdin, args...)
			if out[line+form] = o.out + o.err; form == "" && !strings.Contains(out[line], want) && want != "payload" && want != "version" {
				t.Errorf("tercel %s has no %q, so that it proves nothing:\n%s", line, want, out[line])
			}
		}
	}
	out["log"] = log.String()
	if got := out["dlq show 1"] + out["dlq show 2"]; !strings.Contains(got, "[redacted]") || !strings.Contains(out["dlq show 1 --json"]+out["dlq show 2 --json"], "not taken") {
		t.Errorf("no dead letter shows that something was left out, or what the destination answered:\n%s", got)
	}
	for way, text := range out {
		for _, planted := range []string{card, email, phone} {
			for form, value := range map[string]string{"as it is": planted, "in base64": base64.StdEncoding.EncodeToString([]byte(planted))} {
				if at := strings.Index(text, value); at >= 0 {
					t.Errorf("%s has %q %s: %q", way, planted, form, text[max(0, at-60):min(len(text), at+len(value)+20)])
				}
			}
		}
	}
	checkStoredAsReceived(t, p, body)
}

// With stored, the values are replaced before anything is stored: they are in no
// stream and at no destination, whether a webhook brought them, the API or its
// list. The hash of what was received is there.
func TestRedactedValuesAreNotStoredIfAsked(t *testing.T) {
	t.Parallel()
	const card, email = "4111222233334444", "ada.planted@example.com"
	s := startShop(t)
	p := startLive(t, s, liveOptions{source: "    redact: {paths: [body.card.number, record.email], stored: true}\n"})
	put := func(id string) {
		s.putRaw(id, fmt.Sprintf(`{"id":%q,"version":1,"updated_at":%q,"email":%q}`, id, time.Now().UTC().Add(-time.Minute).Format(time.RFC3339Nano), email))
	}
	put("1")
	put("2") // of which no webhook tells
	body := fmt.Sprintf(`{"type":"order.paid","id":"1","card":{"number":%q}}`, card)
	id := p.send("d-1", body)
	until(t, "both records are delivered", func() bool {
		o := tercel(t, "", "reconcile", "run", "orders", "order", "--api", p.ConsoleURL)
		return o.code == 0 && strings.Contains(tercel(t, "", "event", "trace", "2", "--by", "record", "--api", p.ConsoleURL).out, "delivered") &&
			p.status(id) == delivered
	})
	l := leaks{t: t, p: p, out: map[string]string{}}
	l.stored()
	for way, text := range l.out {
		for _, planted := range []string{card, email} {
			if at := strings.Index(text, planted); at >= 0 {
				t.Errorf("%s has %q: %q", way, planted, text[max(0, at-60):at])
			}
		}
	}
	sum := sha256.Sum256([]byte(body))
	for way, want := range map[string]string{
		"stream TERCEL_RAW": hex.EncodeToString(sum[:]), "stream TERCEL_ENRICHED": `"email":"[redacted]"`, "database": "[redacted]",
	} {
		if !strings.Contains(l.out[way], want) {
			t.Errorf("%s has no %s:\n%.2000s", way, want, l.out[way])
		}
	}
}

// checkStoredAsReceived looks whether the trigger is stored to the byte (promise
// 8), and that the destinations get what is not shown.
func checkStoredAsReceived(t *testing.T, p *livePipeline, body string) {
	t.Helper()
	js, err := jetstream.New(p.Conn, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range consume.Scan(t.Context(), js, consume.ScanOptions{Stream: topology.StreamRaw}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) == body {
			return
		}
	}
	t.Errorf("no trigger is stored as it was received, %s", body)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
