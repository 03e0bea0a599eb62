package enricher_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/topology"
)

// down is an API that is out in changing ways until it is back.
type down struct {
	back     atomic.Bool
	probes   atomic.Int32 // requests while it was out
	flying   atomic.Int32
	returned atomic.Int32 // requests since it is back
	crowd    atomic.Int32 // most in flight among the first three of those
}

func (d *down) wrap(ok http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		flying := d.flying.Add(1)
		defer d.flying.Add(-1)
		if d.back.Load() {
			if d.returned.Add(1) <= 3 && flying > d.crowd.Load() {
				d.crowd.Store(flying)
			}
			ok(w, r)
			return
		}
		switch d.probes.Add(1) % 4 {
		case 0:
			panic(http.ErrAbortHandler) // closes the connection
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			_, _ = fmt.Fprint(w, "<html>maintenance</html>")
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

// orders sends triggers of as many orders, one record each.
func (f *fixture) orders(from, to int, account string) {
	f.t.Helper()
	for i := from; i < to; i++ {
		e := trigger("batch.done", fmt.Sprint("evt_", account, i))
		e.Account = account
		f.send(e, fmt.Sprintf(`{"orders":[{"id":"%s%d"}]}`, account, i))
	}
}

// plain answers for every record of resource batch.
func plain(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, `{"id":%q,"version":1}`, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
}

// An outage that lasts for a hundred times as long as all attempts would take
// costs none of them: nothing is given up, nothing is lost, the API is asked a
// few times meanwhile and with one request first when it is back. Another source
// flows all the time.
func TestPromise3OutageCostsNoAttempts(t *testing.T) {
	t.Parallel()
	api := &down{}
	orders := api.wrap(plain)
	f := setup(t, twoSources, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hub/") {
			fmt.Fprint(w, `{"id":"i","version":1}`)
			return
		}
		orders(w, r)
	})
	f.cfg.MaxAttempts = 4 // within about 100ms
	stop := f.start()
	f.start() // two replicas
	began := time.Now()
	f.orders(0, 100, "_")
	f.eventually("a pause", func() bool { return f.consumer("orders").Paused })
	for i := range 50 {
		e := trigger("issue.opened", fmt.Sprint("evt_", i))
		e.Source = "hub"
		f.send(e, `{"id":"i"}`)
	}
	f.settled("hub")
	if got := len(f.events()); got != 50 || api.back.Load() {
		t.Errorf("%d events while one source was out, want 50 of the other", got)
	}
	stop() // a replica less, in the middle of it
	f.start()
	f.orders(100, 150, "_")
	const outage = 15 * time.Second
	select { // time itself is what this is about
	case <-time.After(time.Until(began.Add(outage))):
	case <-t.Context().Done():
	}
	if n := api.probes.Load(); n > 100 {
		t.Errorf("%d requests to an API that was out for %s", n, time.Since(began))
	}
	api.back.Store(true)
	f.patiently("all events", func() bool { return len(f.events()) == 200 })
	if got := len(f.messages(topology.StreamAdvisories)) + len(f.messages(topology.StreamDLQ)); got > 0 {
		t.Errorf("%d triggers were given up", got)
	}
	if n := api.crowd.Load(); n > 2 { // one of each replica
		t.Errorf("%d requests in flight at the return, want one of each replica", n)
	}
	t.Logf("%d requests while out for %s", api.probes.Load(), outage)
}

// patiently is eventually for what takes its time by design.
func (f *fixture) patiently(what string, cond func() bool) {
	f.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); <-tick.C {
		if cond() {
			return
		}
	}
	f.t.Fatalf("not within 90s: %s", what)
}

// An outage beyond the horizon ends in dead letters, and those replay cleanly.
func TestPromise3OutageBeyondTheHorizonEndsInLettersThatReplay(t *testing.T) {
	t.Parallel()
	api := &down{}
	f := setup(t, oneSource, api.wrap(plain))
	f.cfg.GiveUpAfter = 2 * time.Second
	stop := f.start()
	const n = 60 // more than are in hand at once
	f.orders(0, n, "_")
	f.patiently("dead letters", func() bool { return len(f.messages(topology.StreamDLQ)) == n })
	f.settled("orders")
	if got := len(f.events()); got > 0 {
		t.Errorf("%d events without a record", got)
	}
	stop()
	f.cfg.GiveUpAfter = time.Hour // the hold of the outage may be longer than those 2s
	f.start()
	api.back.Store(true)
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := deadletter.Replay(t.Context(), f.js, seq, deadletter.ReplayOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.patiently("all events", func() bool { return len(f.events()) == n })
	f.settled("orders")
	if got := len(f.messages(topology.StreamDLQ)); got != n {
		t.Errorf("%d dead letters, want no more than the %d replayed", got, n)
	}
}

const tenAccounts = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature, encoding: hex, signed: "{body}"}
    secrets: [env:SECRET]
    event: {id: body.id, type: body.kind}
    accounts: {file: ACCOUNTS}
    api: {base: "%s", allow_private: true, timeout: 2s, concurrency: 4}
    resources:
      batch: {triggers: [batch.*], id: "body.orders[].id", get: "/plain/{id}", version: record.version}
`

// Of ten accounts one has a credential that is refused, one is throttled, and
// one gets no answers. The others flow, and nothing of any is given up.
func TestPromise3SickAccountsLeaveTheOthersFlowing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var entries strings.Builder
	for i := range 10 {
		path := filepath.Join(folder, fmt.Sprint("token", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "token-%d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&entries, "a%d: {api: {token: \"file:%s\"}}\n", i, path)
	}
	list := filepath.Join(folder, "accounts.yaml")
	if err := os.WriteFile(list, []byte(entries.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var well atomic.Bool
	var hung atomic.Int32
	f := setup(t, strings.ReplaceAll(tenAccounts, "ACCOUNTS", list), func(w http.ResponseWriter, r *http.Request) {
		switch token := r.Header.Get("Authorization"); {
		case token == "Bearer token-0":
			w.WriteHeader(http.StatusUnauthorized)
		case token == "Bearer token-1" && !well.Load():
			w.WriteHeader(http.StatusTooManyRequests)
		case token == "Bearer token-2" && !well.Load():
			hung.Add(1)
			<-r.Context().Done()
		case !strings.HasPrefix(token, "Bearer token-"):
			w.WriteHeader(http.StatusTeapot)
		default:
			plain(w, r)
		}
	})
	f.cfg.Workers = 12
	set, err := account.Open(account.Config{Sources: f.cfg.Sources, Streams: f.cfg.Streams}, account.Deps{Conn: f.nc, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	f.accounts = set
	f.start()
	const each = 20
	for i := range 10 { // the sick ones in front
		f.orders(0, each, fmt.Sprint("a", i))
	}
	f.patiently("the events of seven accounts", func() bool { return len(f.events()) == 7*each })
	if f.consumer("orders").Paused {
		t.Error("the source is paused for the sake of some accounts")
	}
	well.Store(true)
	f.patiently("the events of nine accounts", func() bool { return len(f.events()) == 9*each })
	if got := len(f.messages(topology.StreamDLQ)); got > 0 {
		t.Errorf("%d triggers were given up", got)
	}
	if n := f.consumer("orders").NumAckPending; n != each {
		t.Errorf("%d triggers wait, want the %d of the account whose credential is refused", n, each)
	}
	if n := hung.Load(); n > 20 {
		t.Errorf("%d requests hung, want few", n)
	}
}

// A stream of events that has no room is no fault of the triggers, however many wait.
func TestPromise3FullStreamCostsNoAttempts(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, plain)
	stream, err := f.js.Stream(t.Context(), topology.StreamEnriched)
	if err != nil {
		t.Fatal(err)
	}
	roomy := stream.CachedInfo().Config
	full := roomy
	full.MaxBytes = 1
	if _, err := f.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	f.cfg.MaxAttempts = 2
	f.start()
	f.leaveRoomFor(4)
	f.orders(0, 8, "_")
	f.patiently("more deliveries than attempts", func() bool { return f.consumer("orders").Delivered.Consumer > 20 })
	if _, err := f.js.UpdateStream(t.Context(), roomy); err != nil {
		t.Fatal(err)
	}
	f.patiently("the events", func() bool { return len(f.events()) == 8 })
	if got := len(f.messages(topology.StreamDLQ)); got > 0 {
		t.Errorf("%d triggers were given up", got)
	}
}

// leaveRoomFor sets how many triggers may be without an answer.
func (f *fixture) leaveRoomFor(n int) {
	f.t.Helper()
	cons, err := f.js.Consumer(f.t.Context(), topology.StreamRaw, topology.EnrichDurable("orders"))
	if err != nil {
		f.t.Fatal(err)
	}
	small := cons.CachedInfo().Config
	small.MaxAckPending = n
	if _, err := f.js.UpdateConsumer(f.t.Context(), topology.StreamRaw, small); err != nil {
		f.t.Fatal(err)
	}
}

// What the enricher asks of the server about a source may get no answer. Its workers
// don't wait for long, each time that it is asked: a minute would be too much.
func TestALostQuestionHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const throttled = 2
	var asked atomic.Int32
	f := setup(t, oneSource, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= throttled {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		plain(w, r)
	})
	f.cfg.Workers, f.cfg.Timeout = 1, 5*time.Minute // of which a question may not take what it likes
	f.start()
	f.server.Lose("$JS.API.CONSUMER.INFO." + topology.StreamRaw + "." + topology.EnrichDurable("orders"))
	f.orders(0, 1, "_")
	f.eventually("the event", func() bool { return len(f.events()) == 1 })
}

// A backlog that waits for a low rate of our own uses up no attempts.
func TestPromise3WaitingForTheConfiguredRateCostsNoAttempts(t *testing.T) {
	t.Parallel()
	f := setup(t, oneSource, plain)
	src := f.cfg.Sources["orders"]
	src.API.Rate = provider.Rate{Requests: 4, Per: time.Second}
	f.cfg.Sources["orders"] = src
	f.cfg.Workers, f.cfg.Timeout, f.cfg.MaxAttempts = 32, 4*time.Second, 2 // half of them can't have their turn in time
	f.start()
	f.orders(0, 40, "_")
	f.patiently("all events", func() bool { return len(f.events()) == 40 })
	if got := len(f.messages(topology.StreamDLQ)); got > 0 {
		t.Errorf("%d triggers were given up", got)
	}
}

// Where the triggers of sick accounts take nearly all the room for triggers
// without an answer, further ones are given up, so that others get through.
func TestSickAccountsTakeNoMoreThanTheirRoom(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	token := filepath.Join(folder, "token")
	if err := os.WriteFile(token, []byte("sick"), 0o600); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(folder, "accounts.yaml")
	if err := os.WriteFile(list, fmt.Appendf(nil, "sick: {api: {token: \"file:%s\"}}\nwell: {}\n", token), 0o600); err != nil {
		t.Fatal(err)
	}
	f := setup(t, strings.ReplaceAll(tenAccounts, "ACCOUNTS", list), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		plain(w, r)
	})
	set, err := account.Open(account.Config{Sources: f.cfg.Sources, Streams: f.cfg.Streams}, account.Deps{Conn: f.nc, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	f.accounts = set
	f.start()
	f.leaveRoomFor(20)
	f.orders(0, 16, "sick") // fills three quarters
	f.eventually("they wait", func() bool { return f.consumer("orders").NumAckPending == 16 })
	f.orders(16, 40, "sick")
	f.orders(0, 10, "well")
	f.patiently("the events of the other account", func() bool { return len(f.events()) == 10 })
	if got := len(f.messages(topology.StreamDLQ)); got == 0 {
		t.Error("nothing was given up, but the room was full")
	}
}
