package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// subscribedEvents are what the examples of subscribers get, in this order, and
// what each of them makes of it.
var subscribedEvents = []struct {
	event.Event
	body     string
	inGo, js string
}{
	{event.Event{ID: "new", Version: "1"}, `{"trigger":{},"record":{"id":"o 1","n":1}}`, "new", "done"},
	{event.Event{ID: "new", Version: "1"}, `{"trigger":{},"record":{"id":"o 1","n":1}}`, "repeated", "repeated"},
	{event.Event{ID: "later ünd", Version: "3"}, `{"trigger":{},"record":{"id":"o 1","n":3},"of a later version":1}`, "updated", "done"},
	{event.Event{ID: "out of order", Version: "2"}, `{"trigger":{},"record":{"id":"o 1","n":2}}`, "not newer", "not newer"},
	{event.Event{ID: "poison", Version: "4"}, `{"trigger":{}`, "dead letter", "dead letter"},
	{event.Event{ID: "about nothing"}, `{"trigger":{"hello":"world"},"record":null}`, "no record", "done"},
	{event.Event{ID: "gone", Deleted: true}, `{"trigger":{},"record":null,"deleted":true}`, "updated", "done"},
}

// The examples for downstream teams have the effect of each event once, whatever
// comes twice or too late, and keep apart what they can't use. They go on where
// they were after a restart.
func TestExamplesOfSubscribers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		command func(t *testing.T, url string) *exec.Cmd
		inGo    bool
	}{
		"Go": {func(t *testing.T, url string) *exec.Cmd {
			return exec.Command(subscriberInGo(t), "-nats", url)
		}, true},
		"JavaScript": {subscriberInJavaScript(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, false)
			js, err := jetstream.New(server.Connect(), natstest.Patient())
			if err != nil {
				t.Fatal(err)
			}
			if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i, e := range subscribedEvents {
				publishEnriched(t, js, i, e.Event, e.body)
				outcome := e.js
				if tt.inGo {
					outcome = e.inGo
				}
				want = append(want, outcome)
			}
			if got := subscribe(t, tt.command(t, server.URL()), len(want)); !slices.Equal(got, want) {
				t.Errorf("the outcomes are %q, want %q", got, want)
			}
			publishEnriched(t, js, len(want), subscribedEvents[2].Event, subscribedEvents[2].body)
			if got := subscribe(t, tt.command(t, server.URL()), 1); !slices.Equal(got, []string{"repeated"}) {
				t.Errorf("after the restart the outcomes are %q, want one repeat", got)
			}
			checkDeadLetter(t, js, tt.inGo)
		})
	}
}

// With the production configuration the examples work as a team does: with its
// key, the consumer that was made for it, and nothing else of Tercel's server.
func TestExamplesOfSubscribersInProduction(t *testing.T) {
	t.Parallel()
	f := newNATSFolder(t)
	_, url := f.single()
	f.setUp(url, teamPipeline, nil)
	admin := f.connect("admin", url)
	team := natstest.Start(t, false) // where it keeps what is its own
	own, err := jetstream.New(team.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	ca := f.clients.file(filepath.Join(f.dir, "tls", "clients"))
	inGo := exec.Command(subscriberInGo(t), "-nats", url, "-nkey", f.seed("billing"), "-ca", ca,
		"-consumer", topology.TeamDurable("billing"), "-team-nats", team.URL())
	// Its client compares certificates with names alone.
	inJavaScript := subscriberInJavaScript()(t, strings.Replace(url, "127.0.0.1", "localhost", 1))
	inJavaScript.Env = append(inJavaScript.Env, "NATS_NKEY="+f.seed("billing"), "NATS_CA="+ca,
		"CONSUMER="+topology.TeamDurable("billing"), "TEAM_NATS_URL="+team.URL())
	for i, cmd := range []*exec.Cmd{inGo, inJavaScript} { // one after the other: it is one consumer
		var want []string
		for j, e := range subscribedEvents {
			publishEnriched(t, admin.js, i*len(subscribedEvents)+j, e.Event, e.body)
			want = append(want, []string{e.inGo, e.js}[i])
		}
		if got := subscribe(t, cmd, len(want)); !slices.Equal(got, want) {
			t.Errorf("%s: the outcomes are %q, want %q", cmd.Path, got, want)
		}
		checkDeadLetter(t, own, cmd == inGo)
	}
}

// publishEnriched publishes an event of an order as the enricher does.
func publishEnriched(t *testing.T, js jetstream.JetStream, i int, e event.Event, body string) {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, i, 0, time.UTC)
	e.Source, e.Account, e.Type, e.Origin, e.ContentType = "orders", event.NoAccount, "order.updated", event.Webhook, "application/json"
	e.Time, e.ReceivedAt, e.TriggerSequence = at, at, uint64(i+1)
	if e.Version != "" || e.Deleted {
		e.Resource, e.RecordID, e.ObservedAt = "order", "o 1", at
	}
	m := &nats.Msg{Subject: e.EnrichedSubject(), Header: e.Header(), Data: []byte(body)}
	m.Header.Set(nats.MsgIdHdr, fmt.Sprint("delivery-", i))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// subscribe runs a program until it has told of n events, ends it and returns the
// outcomes.
func subscribe(t *testing.T, cmd *exec.Cmd, n int) (outcomes []string) {
	t.Helper()
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	lines := bufio.NewScanner(out)
	for len(outcomes) < n && lines.Scan() {
		var line struct{ Outcome string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("printed %q: %v", lines.Text(), err)
		}
		if line.Outcome != "" {
			outcomes = append(outcomes, line.Outcome)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	for lines.Scan() { // to its end
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v\n%s", err, problems.Bytes())
	}
	return outcomes
}

// checkDeadLetter looks at what a team keeps of what it could not use.
func checkDeadLetter(t *testing.T, js jetstream.JetStream, inGo bool) {
	t.Helper()
	stream := "SHIPPING_DLQ"
	if inGo {
		stream = "BILLING_DLQ"
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	m, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get(event.HeaderID) != "poison" || m.Header.Get("Dead-Letter-Error") == "" || string(m.Data) != `{"trigger":{}` {
		t.Errorf("the dead letter is %v %q, want the message and the reason", m.Header, m.Data)
	}
}

const subscribers = "../../deploy/examples"

func subscriberInGo(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "subscriber")
	if err := build("go", "build", "-o", file, subscribers+"/subscriber"); err != nil {
		t.Fatal(err)
	}
	return file
}

// subscriberInJavaScript gets the packages of the program from the npm registry.
func subscriberInJavaScript() func(t *testing.T, url string) *exec.Cmd {
	var dir string
	return func(t *testing.T, url string) *exec.Cmd {
		t.Helper()
		npm, err := exec.LookPath("npm")
		if err != nil {
			absent(t, "npm, which brings the packages of "+subscribers+"/subscriber-node")
		}
		if dir == "" {
			dir = t.TempDir()
			for _, name := range []string{"package.json", "subscriber.js"} {
				text, err := os.ReadFile(filepath.Join(subscribers, "subscriber-node", name))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, name), string(text))
			}
			if err := build(npm, "install", "--silent", "--ignore-scripts", "--prefix", dir); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("node", filepath.Join(dir, "subscriber.js"))
		cmd.Env = append(os.Environ(), "NATS_URL="+url)
		return cmd
	}
}
