package ingress_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
)

// clock is a clock that tests set.
type clock struct{ now atomic.Pointer[time.Time] }

func (c *clock) set(t time.Time) { c.now.Store(&t) }
func (c *clock) read() time.Time { return *c.now.Load() }

// What a provider has signed is stored, and nothing else is: with keys that are
// fetched over TLS from the servers that requests name.
func TestFetchedKeysAgreeWithVectors(t *testing.T) {
	t.Parallel()
	for _, preset := range fetching {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			file, now := readSenderFile(t, preset), &clock{}
			now.set(at)
			w := worldWith(t, file.senderKeys)
			f := setupWith(t, ingress.Deps{Now: now.read, Outside: w.outside()}, func(c *ingress.Config) {
				c.Sources = map[string]provider.Source{}
				for i, v := range file.Vectors {
					c.Sources[fmt.Sprintf("it-%d", i)] = fetchingSource(t, preset, "", v.Secrets...)
				}
			})
			stored := uint64(0)
			for i, v := range file.Vectors {
				now.set(v.At)
				answer := f.answered(v.delivery(fmt.Sprintf("it-%d", i)))
				want := http.StatusUnauthorized
				switch {
				case v.Want == "accept" && v.Body == "": // signed, and nothing
					want = http.StatusBadRequest
				case v.Want == "accept":
					want = http.StatusOK
				}
				if answer.Code != want {
					t.Errorf("%s: answered %d %s, want %d (%s)\n%s", v.Name, answer.Code, answer.Body, want, v.Want, f.log)
				}
				if want == http.StatusOK && answer.Body.Len() > 0 { // a handshake is answered without a body
					stored++
				}
			}
			if got := f.stored(); got != stored || stored == 0 {
				t.Errorf("%d messages stored, want %d", got, stored)
			}
			for _, call := range w.Calls() {
				if strings.Contains(call, "example.com") {
					t.Errorf("called %s", call)
				}
			}
		})
	}
}

// While a key can't be had, its event may be genuine: it is to come again, and
// then it is taken.
func TestAKeyThatIsNotToBeHadNow(t *testing.T) {
	t.Parallel()
	for _, preset := range fetching {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			file, now := readSenderFile(t, preset), &clock{}
			v := file.find(t, "valid")
			now.set(v.At)
			w := worldWith(t, file.senderKeys)
			w.down.Store(true)
			name := "late-" + preset
			f := setupWith(t, ingress.Deps{Now: now.read, Outside: w.outside()}, func(c *ingress.Config) {
				c.Sources = map[string]provider.Source{name: fetchingSource(t, preset, "", v.Secrets...)}
			})
			for range 3 {
				r := f.send(v.delivery(name))
				if r.code != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "30" {
					t.Errorf("answered %+v, want 503 with Retry-After", r)
				}
			}
			if len(w.Calls()) != 1 {
				t.Errorf("called %q, want one call", w.Calls())
			}
			if got := counted(t)["tercel.requests.answered "+name+" key_unavailable"]; got != 3 {
				t.Errorf("%d requests counted as key_unavailable, want 3", got)
			}
			w.down.Store(false)
			now.set(v.At.Add(30 * time.Second))
			if r := f.send(v.delivery(name)); r.Status != "accepted" || f.stored() != 1 {
				t.Errorf("answered %+v with %d stored, want it accepted", r, f.stored())
			}
		})
	}
}

// Nobody is asked for a key before a request has passed all that is cheaper.
func TestNothingIsFetchedForRequestsThatAreRefusedAnyway(t *testing.T) {
	t.Parallel()
	file, now := readSenderFile(t, "aws-sns"), &clock{}
	v := file.find(t, "valid")
	now.set(v.At)
	w := worldWith(t, file.senderKeys)
	f := setupWith(t, ingress.Deps{Now: now.read, Outside: w.outside()}, func(c *ingress.Config) {
		source := func(more string) provider.Source { return fetchingSource(t, "aws-sns", more, v.Secrets...) }
		c.Sources = map[string]provider.Source{
			"it":      source(""),
			"small":   source("    request: {max_body: 100B}\n"),
			"limited": source("    limit: {requests: 1, per: 1h}\n"),
			"near":    source("    origin: {allow: [192.0.2.0/24]}\n"),
		}
	})
	change := func(source, old, text string) delivery {
		d := v.delivery(source)
		if !strings.Contains(d.body, old) {
			t.Fatalf("no %s in the body", old)
		}
		d.body = strings.Replace(d.body, old, text, 1)
		return d
	}
	f.send(change("limited", v.Secrets[0], "arn:of:another")) // takes its turn
	for name, tt := range map[string]struct {
		request delivery
		status  int
	}{
		"too large":       {v.delivery("small"), 413},
		"too many":        {v.delivery("limited"), 429},
		"from elsewhere":  {v.delivery("near"), 403},
		"no source":       {v.delivery("nowhere"), 404},
		"another topic":   {change("it", v.Secrets[0], "arn:of:another"), 401},
		"no signature":    {change("it", `"Signature"`, `"Sgnature"`), 401},
		"no time":         {change("it", `"Timestamp"`, `"Tmestamp"`), 401},
		"no JSON":         {change("it", `{`, ``), 401},
		"metadata":        {change("it", "https://sns.us-east-1.amazonaws.com/", "https://169.254.169.254/"), 401},
		"another host":    {change("it", "amazonaws.com/Simple", "amazonaws.com.example.com/Simple"), 401},
		"another port":    {change("it", "amazonaws.com/Simple", "amazonaws.com:8443/Simple"), 401},
		"with a user":     {change("it", "https://sns.us-east-1", "https://x@sns.us-east-1"), 401},
		"without TLS":     {change("it", "https://sns.us-east-1", "http://sns.us-east-1"), 401},
		"an encoded host": {change("it", "amazonaws.com/Simple", "amazonaws.com%2eexample.com/Simple"), 401},
	} {
		if r := f.answered(tt.request); r.Code != tt.status {
			t.Errorf("%s: answered %d %s, want %d", name, r.Code, r.Body, tt.status)
		}
	}
	if calls := w.Calls(); len(calls) != 0 || f.stored() != 0 {
		t.Errorf("called %q, stored %d, want nothing", calls, f.stored())
	}
}

// A subscription is confirmed by calling the address that SNS has signed, once
// its topic is known to be ours; until that has worked, SNS is to ask again.
func TestSubscriptionsAreConfirmed(t *testing.T) {
	t.Parallel()
	file, now := readSenderFile(t, "aws-sns"), &clock{}
	v := file.find(t, "a subscription to confirm")
	now.set(v.At)
	w := worldWith(t, file.senderKeys)
	f := setupWith(t, ingress.Deps{Now: now.read, Outside: w.outside()}, func(c *ingress.Config) {
		c.Sources = map[string]provider.Source{
			"ours": fetchingSource(t, "aws-sns", "", v.Secrets...), "others": fetchingSource(t, "aws-sns", "", "arn:aws:sns:us-east-1:210987654321:others"),
		}
	})
	visits := func() int {
		return len(slices.DeleteFunc(w.Calls(), func(call string) bool { return strings.Contains(call, ".pem") }))
	}
	if r := f.answered(v.delivery("others")); r.Code != http.StatusUnauthorized || visits() != 0 {
		t.Errorf("another topic: answered %d after %d visits", r.Code, visits())
	}
	forged := v.delivery("ours")
	forged.body = strings.Replace(forged.body, "Token=2336", "Token=9999", 1)
	if r := f.answered(forged); r.Code != http.StatusUnauthorized || visits() != 0 {
		t.Errorf("forged: answered %d after %d visits", r.Code, visits())
	}
	w.down.Store(true)
	if r := f.answered(v.delivery("ours")); r.Code != http.StatusServiceUnavailable || r.Header().Get("Retry-After") == "" {
		t.Errorf("while the address is down: answered %d, %v", r.Code, r.Header())
	}
	w.down.Store(false)
	before := visits()
	if r := f.answered(v.delivery("ours")); r.Code != http.StatusOK || visits() != before+1 {
		t.Errorf("answered %d after %d visits, want 200 and one\n%s", r.Code, visits()-before, f.log)
	}
	want := "sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:123456789012:orders&Token=2336412f37fb687f5d51e6e2"
	if calls := w.Calls(); calls[len(calls)-1] != want {
		t.Errorf("called %s, want %s", calls[len(calls)-1], want)
	}
	if f.stored() != 0 {
		t.Error("a handshake was stored")
	}
	w.Redirect("https://evil.example.com/")
	if r := f.answered(v.delivery("ours")); r.Code != http.StatusServiceUnavailable {
		t.Errorf("a redirect: answered %d", r.Code)
	}
	for _, call := range w.Calls() {
		if strings.Contains(call, "evil") {
			t.Errorf("called %s", call)
		}
	}
	if strings.Contains(f.log.String(), "2336412f37fb687f5d51e6e2") {
		t.Error("the log has the token")
	}
}

// Explain fetches as the service does, says what is wrong, and visits nothing.
func TestExplainOfFetchedKeys(t *testing.T) {
	t.Parallel()
	file := readSenderFile(t, "aws-sns")
	tests := map[string]struct {
		vector string
		down   bool
		step   string // that fails, or ""
		detail string // of it, or of the handshake
		status int
	}{
		"good":                      {"valid", false, "", "", 200},
		"another topic":             {"wrong secret", false, "recipient", "none of the secrets", 401},
		"tampered":                  {"tampered", false, "signature match", "mismatch", 401},
		"a certificate of nobody":   {"a certificate of nobody", false, "sender's key", "isn't one that the sender's keys have", 401},
		"not to be had":             {"valid", true, "sender's key", "status 500", 503},
		"a subscription to confirm": {"a subscription to confirm", false, "", "isn't visited from here", 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := file.find(t, tt.vector)
			w := worldWith(t, file.senderKeys)
			w.down.Store(tt.down)
			ex, err := w.outside().Explain("it", fetchingSource(t, "aws-sns", "", v.Secrets...), v.delivery("it").raw(), v.At)
			if err != nil {
				t.Fatal(err)
			}
			if ex.Status != tt.status || ex.Accepted != (tt.step == "") {
				t.Errorf("Explain() = %+v, want status %d", ex, tt.status)
			}
			found := tt.detail == ""
			for _, s := range ex.Steps {
				if (s.Result == ingress.Failed) != (s.Name == tt.step) {
					t.Errorf("step %s: %s, %s", s.Name, s.Result, s.Detail)
				}
				found = found || strings.Contains(s.Detail, tt.detail)
			}
			if !found {
				t.Errorf("no step says %q: %+v", tt.detail, ex.Steps)
			}
			if slices.ContainsFunc(w.Calls(), func(call string) bool { return strings.Contains(call, "Action") }) {
				t.Errorf("called %q", w.Calls())
			}
		})
	}
}
