package sourceapi_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/seal"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/pkg/topology"
)

// issuer is a token endpoint and the API that knows its tokens.
type issuer struct {
	rotates bool
	status  atomic.Int32 // of a refusal; 0 grants

	mu      sync.Mutex
	forms   []url.Values
	basic   [2]string
	refresh string // the one that is good, where it rotates
	reused  int    // times that another one was used
	good    string // the access token that the API takes
	issued  int
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.URL.Path != "/token" {
		if r.Header.Get("Authorization") != "Bearer "+i.good {
			w.WriteHeader(401)
			return
		}
		fmt.Fprintf(w, "%q", i.good)
		return
	}
	_ = r.ParseForm()
	i.forms = append(i.forms, r.PostForm)
	i.basic[0], i.basic[1], _ = r.BasicAuth()
	if status := i.status.Load(); status != 0 {
		w.WriteHeader(int(status))
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"hunter2"}`)
		return
	}
	if i.rotates && r.PostForm.Get("refresh_token") != i.refresh {
		i.reused++
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	i.issued++
	i.good = fmt.Sprint("access-", i.issued)
	next := ""
	if i.rotates {
		i.refresh = fmt.Sprint("refresh-", i.issued)
		next = fmt.Sprintf(`,"refresh_token":%q`, i.refresh)
	}
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600%s}`, i.good, next)
}

func (i *issuer) with(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func oauthAPI(base string) provider.API {
	cfg := api(base)
	cfg.OAuth = &provider.OAuth{
		TokenURL: base + "/token", ClientID: "c:1", ClientSecret: config.NewSecret("hunter2&"), Scopes: []string{"read", "list"},
		Audience: "https://api.example.com", Style: provider.AuthHeader,
	}
	return cfg
}

// However many requests wait for it, one token is got, kept until shortly before
// it expires, and got anew once when the API refuses it.
func TestClientCredentials(t *testing.T) {
	t.Parallel()
	i := &issuer{}
	s := serve(t, i.ServeHTTP)
	now := newClock()
	c := newClient(t, oauthAPI(s.URL), sourceapi.Deps{Now: now.now})
	together(t, c, 20)
	i.with(func() {
		if len(i.forms) != 1 || i.basic != [2]string{"c%3A1", "hunter2%26"} {
			t.Fatalf("%d token requests by %q, want one", len(i.forms), i.basic)
		}
		want := url.Values{"grant_type": {"client_credentials"}, "scope": {"read list"}, "audience": {"https://api.example.com"}}
		if i.forms[0].Encode() != want.Encode() {
			t.Errorf("asked with %v, want %v", i.forms[0], want)
		}
	})
	get := func(path string) error { _, err := c.Get(t.Context(), path, nil); return err }
	now.move(58 * time.Minute)
	if err := get("/a"); err != nil || len(i.forms) != 1 {
		t.Errorf("before it expires: %v after %d token requests, want 1", err, len(i.forms))
	}
	now.move(time.Minute + time.Second)
	if err := get("/b"); err != nil || len(i.forms) != 2 {
		t.Errorf("shortly before it expires: %v after %d token requests, want 2", err, len(i.forms))
	}
	i.with(func() { i.good = "revoked" })
	if err := get("/c"); err != nil || len(i.forms) != 3 {
		t.Errorf("when it was revoked: %v after %d token requests, want 3", err, len(i.forms))
	}
}

// An API that refuses a token that was just got refuses the credential: it is left
// alone, and so is the issuer, however many different tokens that would give.
func TestATokenIsGotAnewOnce(t *testing.T) {
	t.Parallel()
	var issued, asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			fmt.Fprintf(w, `{"access_token":"access-%d","token_type":"Bearer"}`, issued.Add(1))
			return
		}
		asked.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	})
	_, err := newClient(t, oauthAPI(s.URL), sourceapi.Deps{}).Get(t.Context(), "/", nil)
	checkFate(t, err, fault.Postponed, 30*time.Second)
	if asked.Load() != 2 || issued.Load() != 2 {
		t.Errorf("asked %d times with %d tokens, want 2 and 2", asked.Load(), issued.Load())
	}
}

func TestTokenErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
		delay  time.Duration
	}{
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":"invalid_client","x":"hunter2"}`, http.StatusUnauthorized)
		}, "status 401 (invalid_client)", 30 * time.Second},
		"out":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, "status 502", time.Second},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":""}`) }, "no access_token", time.Second},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `hunter2`) }, "invalid JSON", time.Second},
		"another type": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token":"hunter2","token_type":"mac"}`)
		}, "want bearer", time.Second},
		"broken token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":"hunter2\r\nX: y"}`) }, "no access_token", time.Second},
		"endless":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`) }, "JSON", time.Second},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "redirect", time.Second},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "access token", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reached atomic.Int32
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/token" {
					reached.Add(1)
					return
				}
				_ = r.ParseForm()
				tt.answer(w, r)
			})
			cfg := oauthAPI(s.URL)
			cfg.Timeout = time.Second
			_, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/", nil)
			checkFate(t, err, fault.Postponed, tt.delay)
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") || reached.Load() > 0 {
				t.Errorf("Get() = %v with %d requests, want none and %q", err, reached.Load(), tt.want)
			}
		})
	}
}

// The token endpoint stands behind the same guard as the API.
func TestTokenEndpointIsGuarded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	cfg := oauthAPI(s.URL)
	cfg.OAuth.TokenURL = "https://169.254.169.254/token"
	_, err := newClient(t, cfg, sourceapi.Deps{}).Get(t.Context(), "/", nil)
	if err == nil || !strings.Contains(err.Error(), "169.254.169.254 is not an address") {
		t.Errorf("Get() = %v, want the address refused", err)
	}
}

// A refresh token that the issuer replaces at each use is used once by all
// replicas together, survives a restart, and gives way to a new authorization;
// a replica with the older configuration doesn't go back to its own.
func TestRotatedRefreshTokens(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, false)
	js, err := jetstream.New(server.Connect(), natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(t.Context(), js, topology.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	box, err := seal.New([]config.Secret{config.NewSecret("a key that is as long as it must be")})
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{rotates: true, refresh: "first"}
	s := serve(t, i.ServeHTTP)
	now := newClock()
	replica := func(refresh string) *sourceapi.Client {
		cfg := oauthAPI(s.URL)
		cfg.OAuth.RefreshToken = config.NewSecret(refresh)
		return newClient(t, cfg, sourceapi.Deps{Now: now.now, JetStream: js, Seal: box})
	}
	all := []*sourceapi.Client{replica("first"), replica("first"), replica("first")}
	check := func(what string, clients []*sourceapi.Client, issued int) {
		t.Helper()
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				if _, err := c.Get(t.Context(), "/"+url.PathEscape(what), nil); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		wg.Wait()
		i.with(func() {
			if i.issued != issued || i.reused != 0 {
				t.Errorf("%s: %d tokens issued, %d uses of an old one, want %d and none", what, i.issued, i.reused, issued)
			}
		})
	}
	check("at first", all, 1)
	now.move(2 * time.Hour)
	check("expired", all, 2)
	i.with(func() { i.good = "revoked" })
	check("revoked", all[:1], 3)
	check("after a restart", []*sourceapi.Client{replica("first")}, 3)
	i.with(func() { i.refresh = "second"; i.good = "gone" }) // a new authorization
	check("authorized anew", []*sourceapi.Client{replica("second")}, 4)
	check("the older configuration", []*sourceapi.Client{replica("first")}, 4)
	kv, err := js.KeyValue(t.Context(), topology.BucketTokens)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := kv.Get(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(stored.Value()), "refresh") || strings.Contains(string(stored.Value()), "access") {
		t.Errorf("stored %q, want nothing readable (promise 9)", stored.Value())
	}
}

func TestRefreshTokensNeedAKey(t *testing.T) {
	t.Parallel()
	cfg := oauthAPI("https://api.example.com")
	cfg.OAuth.RefreshToken = config.NewSecret("hunter2")
	if _, err := sourceapi.New("orders", cfg, sourceapi.Deps{}); err == nil || !strings.Contains(err.Error(), "seal_keys") {
		t.Errorf("New() = %v, want it to ask for seal_keys", err)
	}
}

// A GitHub App signs a token of its own and exchanges it for one of each
// account's installation.
func TestAppInstallations(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	now := newClock()
	var exchanges atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name, isExchange := strings.CutPrefix(r.URL.Path, "/app/installations/")
		if !isExchange {
			fmt.Fprintf(w, "%q", r.Header.Get("Authorization"))
			return
		}
		exchanges.Add(1)
		checkAppToken(t, &key.PublicKey, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token":"of-%s","expires_at":%q}`, strings.TrimSuffix(name, "/access_tokens"),
			now.now().Add(time.Hour).Format(time.RFC3339))
	})
	c := newClient(t, api(s.URL), sourceapi.Deps{Now: now.now, Auth: func(account string) (provider.Auth, bool) {
		return provider.Auth{App: &provider.App{ID: "Iv1", Key: config.NewSecret(string(text)), Installation: account}}, true
	}})
	for range 3 {
		for _, account := range []string{"11", "12"} {
			ans, err := c.Do(t.Context(), sourceapi.Request{Path: "/", Account: account})
			if want := `"Bearer of-` + account + `"`; err != nil || string(ans.Body) != want {
				t.Errorf("Do() = %s, %v, want %s", ans.Body, err, want)
			}
		}
	}
	if n := exchanges.Load(); n != 2 {
		t.Errorf("%d exchanges, want one for each account", n)
	}
}

func checkAppToken(t *testing.T, key *rsa.PublicKey, token string) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Errorf("app token %q", token)
		return
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
		t.Errorf("app token %q is not signed with the app's key", token)
	}
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	now := newClock().now().Unix()
	if want := fmt.Sprintf(`"exp":%d`, now+540); !strings.Contains(string(claims), want) || !strings.Contains(string(claims), `"iss":"Iv1"`) {
		t.Errorf("app token claims %s, want %s", claims, want)
	}
}
