package sourceapi_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// An API that fails for one record alone is not out: others are asked for, and
// the failure counts. When nothing gets through it no longer does.
func TestOutageIsToldFromABrokenRecord(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path == "/broken" || broken.Load() {
			w.WriteHeader(500)
			return
		}
		fmt.Fprint(w, "{}")
	})
	now := newClock()
	c := newClient(t, api(s.URL), sourceapi.Deps{Now: now.now})
	get := func(path string) error { _, err := c.Get(t.Context(), path, nil); return err }
	for range 10 {
		if err := get("/broken"); fault.ClassOf(err) != fault.Transient {
			t.Fatalf("Get() of a broken record = %v, want an attempt", err)
		}
		if err := get("/well"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // with nothing else asked for it might be an outage
		_ = get("/broken")
	}
	if err := get("/broken"); !fault.IsPostponed(err) || c.Held() != 0 {
		t.Errorf("Get() = %v with %s held, want it postponed and no other call", err, c.Held())
	}
	if err := get("/well"); err != nil {
		t.Error(err)
	}
	broken.Store(true)
	for i := range 3 {
		_ = get(fmt.Sprint("/", i))
	}
	before := calls.Load()
	if err := get("/well"); !fault.IsPostponed(err) || calls.Load() != before {
		t.Errorf("Get() = %v with a request %t, want it held back", err, calls.Load() != before)
	}
	checkGrowth(t, c, now, &calls, get)
	broken.Store(false)
	now.move(c.Held())
	if err := get("/well"); err != nil || c.Held() != 0 {
		t.Errorf("Get() when it is back = %v", err)
	}
}

// checkGrowth checks that the time between two tries doubles up to a minute.
func checkGrowth(t *testing.T, c *sourceapi.Client, now *clock, calls *atomic.Int32, get func(string) error) {
	t.Helper()
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		want *= time.Second
		now.move(c.Held())
		before := calls.Load()
		if err := get("/well"); !fault.IsPostponed(err) || calls.Load() != before+1 {
			t.Errorf("Get() = %v with %d requests, want one that fails", err, calls.Load()-before)
		}
		if got := c.Held(); got < want || got > want+want/10 {
			t.Errorf("held for %s, want %s and at most a tenth more", got, want)
		}
	}
}

// When the API may be tried again one request goes first, and more with each
// success.
func TestReturnBeginsWithATrickle(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/limit" {
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(429)
			return
		}
		calls.Add(1)
		<-release
		fmt.Fprint(w, "{}")
	})
	now := newClock()
	c := newClient(t, api(s.URL), sourceapi.Deps{Now: now.now})
	if _, err := c.Get(t.Context(), "/limit", nil); !fault.IsPostponed(err) {
		t.Fatal(err)
	}
	now.move(10 * time.Second)
	results := make(chan error, 16)
	get := func(i int) { go func() { _, err := c.Get(t.Context(), fmt.Sprint("/", i), nil); results <- err }() }
	get(0)
	await(t, "the first request", func() bool { return calls.Load() == 1 })
	for i := range 5 {
		if _, err := c.Get(t.Context(), fmt.Sprint("/more", i), nil); !fault.IsPostponed(err) {
			t.Errorf("a call beside the first one = %v, want it postponed", err)
		}
	}
	release <- struct{}{}
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		get(10 + i)
	}
	await(t, "two requests", func() bool { return calls.Load() == 3 })
	release <- struct{}{}
	await(t, "four in flight", func() bool { return calls.Load() == 3+3 }) // one came back, four may fly
	close(release)
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if cond() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// What the API says to one account's credential is for that account alone; a
// new credential is tried at once. Two that find the API out are the source's
// outage, as is one that reaches nobody.
func TestAccountsHaveBreakersOfTheirOwn(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch token := r.Header.Get("Authorization"); {
		case token == "Bearer old":
			w.WriteHeader(401)
		case token != "" && out.Load():
			w.WriteHeader(500)
		default:
			fmt.Fprintf(w, "%q", token)
		}
	})
	now := newClock()
	var north atomic.Value
	north.Store("old")
	cfg := api(s.URL)
	c := newClient(t, cfg, sourceapi.Deps{Now: now.now, Auth: func(account string) (provider.Auth, bool) {
		switch account {
		case "north":
			return provider.Auth{Token: config.NewSecret(north.Load().(string))}, true
		case "south", "east":
			return provider.Auth{Token: config.NewSecret(account)}, true
		case "plain":
			return cfg.Auth, true
		}
		return provider.Auth{}, false
	}})
	n := 0
	do := func(account string) (string, error) {
		n++
		ans, err := c.Do(t.Context(), sourceapi.Request{Path: fmt.Sprint("/", n), Account: account})
		return string(ans.Body), err
	}
	if _, err := do("north"); !fault.IsPostponed(err) || c.Held() != 0 {
		t.Errorf("Do() with a refused credential = %v, held %s, want it postponed and the source going on", err, c.Held())
	}
	for account, want := range map[string]string{"south": `"Bearer south"`, "plain": `""`, "": `""`, "_": `""`} {
		if got, err := do(account); err != nil || got != want {
			t.Errorf("Do() of %q = %s, %v, want %s", account, got, err, want)
		}
	}
	if _, err := do("nobody"); !fault.IsPostponed(err) {
		t.Errorf("Do() of an account that is not there = %v, want it postponed", err)
	}
	north.Store("new")
	if got, err := do("north"); err != nil || got != `"Bearer new"` {
		t.Errorf("Do() with a new credential = %s, %v", got, err)
	}
	out.Store(true)
	for range 3 {
		_, _ = do("south")
	}
	if _, err := do("south"); !fault.IsPostponed(err) || c.Held() != 0 {
		t.Errorf("Do() = %v, held %s, want one account's outage", err, c.Held())
	}
	for range 3 {
		_, _ = do("east")
	}
	if _, err := do("plain"); !fault.IsPostponed(err) || c.Held() == 0 {
		t.Errorf("Do() = %v, held %s, want the source's outage", err, c.Held())
	}
}

// A credential that is refused for a quarter of an hour costs no attempt.
func TestRefusedCredentialIsWaitedFor(t *testing.T) {
	t.Parallel()
	for status, free := range map[int]int{401: 0, 403: 2} { // a 403 may be one record's
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			now := newClock()
			c := newClient(t, api(s.URL), sourceapi.Deps{Now: now.now})
			counted := 0
			for i := 0; now.now().Sub(newClock().now()) < 15*time.Minute; i++ {
				_, err := c.Get(t.Context(), fmt.Sprint("/", i), nil)
				if !fault.IsPostponed(err) {
					counted++
				}
				now.move(max(c.Held(), time.Second))
			}
			if counted != free {
				t.Errorf("%d attempts, want %d", counted, free)
			}
		})
	}
}

// An answer that says that it used a limit up ends the calls until the reset.
func TestUsedUpLimitIsKeptBeforeTheAPIRefuses(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][2]string{
		"X-RateLimit": {"X-Ratelimit-Remaining", "X-Ratelimit-Reset"}, "configured": {"X-Left", "X-Back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := atomic.Int32{}
			left.Store(2)
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(header[0], fmt.Sprint(left.Add(-1)))
				w.Header().Set(header[1], "30")
				fmt.Fprint(w, "{}")
			})
			cfg := api(s.URL)
			cfg.Limits = []provider.Limit{{Remaining: "X-Left", Reset: "X-Back", Wait: time.Second}}
			c := newClient(t, cfg, sourceapi.Deps{Now: newClock().now})
			for i := range 2 {
				if _, err := c.Get(t.Context(), fmt.Sprint("/", i), nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Get(t.Context(), "/3", nil); !fault.IsPostponed(err) || c.Held() != 30*time.Second || left.Load() != 0 {
				t.Errorf("Get() = %v, held %s after %d left, want 30s", err, c.Held(), left.Load())
			}
		})
	}
}

// What was sent before the API asked for time is answered after it; that doesn't
// end the wait.
func TestLateAnswerEndsNoWait(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/limit" {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
			return
		}
		close(begun)
		<-release
		fmt.Fprint(w, "{}")
	})
	cfg := api(s.URL)
	cfg.Concurrency = 2
	c := newClient(t, cfg, sourceapi.Deps{Now: newClock().now})
	late := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "/late", nil); late <- err }()
	<-begun
	if _, err := c.Get(t.Context(), "/limit", nil); !fault.IsPostponed(err) {
		t.Fatal(err)
	}
	close(release)
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	if got := c.Held(); got != time.Minute {
		t.Errorf("held for %s, want the minute that the API asked for", got)
	}
}

// A success between two credentials' failures says that the source is there, and
// what the source's own credential meets is not for accounts with theirs.
func TestOneCredentialsTroubleIsNotTheSources(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer south", "Bearer east":
			w.WriteHeader(500)
		case "Bearer north":
			fmt.Fprint(w, `"north"`)
		default:
			w.WriteHeader(401)
		}
	})
	c := newClient(t, api(s.URL), sourceapi.Deps{Now: newClock().now, Auth: func(account string) (provider.Auth, bool) {
		return provider.Auth{Token: config.NewSecret(account)}, true
	}})
	do := func(path, account string) (string, error) {
		ans, err := c.Do(t.Context(), sourceapi.Request{Path: path, Account: account, MaxAge: time.Minute})
		return string(ans.Body), err
	}
	for _, account := range []string{"south", "north", "east", "north"} {
		for i := range 3 {
			_, _ = do(fmt.Sprint("/", i), account)
		}
	}
	if _, err := do("/", ""); !fault.IsPostponed(err) || c.Held() != 0 {
		t.Errorf("Do() = %v, held %s, want only those concerned to wait", err, c.Held())
	}
	if got, err := do("/0", "north"); err != nil || got != `"north"` {
		t.Errorf("Do() of a well account = %s, %v", got, err)
	}
}

// What one account was shown is for no other.
func TestAnswersAreAnAccountsOwn(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", r.Header.Get("Authorization")) })
	cfg := api(s.URL)
	cfg.CacheSize = 1 << 20
	c := newClient(t, cfg, sourceapi.Deps{Now: newClock().now, Auth: func(account string) (provider.Auth, bool) {
		return provider.Auth{Token: config.NewSecret(account)}, true
	}})
	for _, account := range []string{"north", "south", "north"} {
		ans, err := c.Do(t.Context(), sourceapi.Request{Path: "/", Account: account, MaxAge: time.Hour})
		if want := `"Bearer ` + account + `"`; err != nil || string(ans.Body) != want {
			t.Errorf("Do() of %s = %s, %v, want %s", account, ans.Body, err, want)
		}
	}
}
