package ingress_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/ingress/internal/nettest"
)

// senderKeys are a file's, by what requests call them: certificates at their URL,
// and JSON Web Keys by their id; root has issued the former.
type senderKeys struct {
	Keys map[string]string `json:"keys"`
	Root string            `json:"root"`
}

// world is the internet with the senders' servers in it.
type world struct {
	*nettest.World
	t     *testing.T
	roots []*x509.Certificate
	down  atomic.Bool // the servers answer 500
}

// subscribed is what SNS says to a confirmation.
const subscribed = `<ConfirmSubscriptionResponse/>`

func worldWith(t *testing.T, all ...senderKeys) *world {
	t.Helper()
	w := &world{World: nettest.New(t), t: t}
	keys := map[string]string{}
	for _, k := range all {
		for name, key := range k.Keys {
			keys[name] = key
		}
		if block, _ := pem.Decode([]byte(k.Root)); block != nil {
			root, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			w.roots = append(w.roots, root)
		}
	}
	w.Serve(func(rw http.ResponseWriter, r *http.Request) {
		if w.down.Load() {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		if r.Method == http.MethodPost {
			answerKey(rw, r, keys)
			return
		}
		key, ok := keys["https://"+r.Host+r.URL.Path]
		switch {
		case ok:
			_, _ = rw.Write([]byte(key))
		case r.URL.Query().Get("Action") == "ConfirmSubscription":
			_, _ = rw.Write([]byte(subscribed))
		default:
			http.NotFound(rw, r)
		}
	})
	return w
}

// answerKey answers as Plaid does.
func answerKey(rw http.ResponseWriter, r *http.Request, keys map[string]string) {
	var question struct {
		KeyID string `json:"key_id"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &question)
	}
	key, ok := keys[question.KeyID]
	if err != nil || !ok || r.Header.Get("Plaid-Secret") == "" {
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = rw.Write([]byte(`{"error_type":"INVALID_INPUT","error_code":"INVALID_WEBHOOK_VERIFICATION_KEY_ID"}`))
		return
	}
	_, _ = rw.Write([]byte(`{"key":` + key + `,"request_id":"RZ6Omi1bzzwDaLo"}`))
}

func (w *world) outside() ingress.Outside {
	return ingress.Outside{Roots: w.Roots(w.roots...), Dial: w.Dial}
}

// senderFile is a file of vectors of a preset whose keys are fetched.
type senderFile struct {
	senderKeys
	Vectors []senderVector `json:"vectors"`
}

// senderVector is a request, and accept or what is wrong with it.
type senderVector struct {
	Name    string      `json:"name"`
	Secrets []string    `json:"secrets"`
	At      time.Time   `json:"at"`
	Method  string      `json:"method"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
	Want    string      `json:"want"`
}

var fetching = []string{"aws-sns", "paypal", "plaid"}

func readSenderFile(t *testing.T, preset string) senderFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "pkg", "provider", "testdata", "vectors", preset+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var f senderFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// fetchingSource is one of a preset with those secrets.
func fetchingSource(t *testing.T, preset, more string, secrets ...string) provider.Source {
	t.Helper()
	env := map[string]string{"CREDENTIAL": "a credential of the API"}
	var names []string
	for i, s := range secrets {
		name := fmt.Sprintf("S%d", i)
		env[name] = s
		names = append(names, "env:"+name)
	}
	text := "sources:\n  it:\n    preset: " + preset + "\n    secrets: [" + strings.Join(names, ", ") + "]\n"
	if preset == "plaid" {
		text += "    api: {headers: {PLAID-CLIENT-ID: env:CREDENTIAL, PLAID-SECRET: env:CREDENTIAL}}\n"
	}
	f, err := pipeline.Decode("tercel.yaml", []byte(text+more), config.WithLookupEnv(func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources["it"]
}

// find returns the vector of that name.
func (f senderFile) find(t *testing.T, name string) senderVector {
	t.Helper()
	i := slices.IndexFunc(f.Vectors, func(v senderVector) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("no vector %q", name)
	}
	return f.Vectors[i]
}

// delivery is the vector as a request to a source.
func (v senderVector) delivery(source string) delivery {
	d := delivery{method: v.Method, path: "/v1/" + source, body: v.Body, header: http.Header{}}
	for _, h := range v.Headers {
		d.header.Add(h[0], h[1])
	}
	return d
}
