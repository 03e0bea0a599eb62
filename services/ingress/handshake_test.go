package ingress_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/ingress"
)

// handshakeFile is a file of vectors, made by scripts/vectors.
type handshakeFile struct {
	Preset string    `json:"preset"`
	Origin string    `json:"origin"`
	At     time.Time `json:"at"`
	senderKeys
	Vectors []handshakeVector `json:"vectors"`
}

// handshakeVector is a request and what it is answered.
type handshakeVector struct {
	Name      string      `json:"name"`
	Handshake string      `json:"handshake"`
	Secrets   []string    `json:"secrets"`
	Config    string      `json:"config"` // more of the source, as YAML
	Method    string      `json:"method"`
	Query     string      `json:"query"`
	Headers   [][2]string `json:"headers"`
	Body      string      `json:"body"`
	Want      struct {
		Status  int               `json:"status"`
		Type    string            `json:"type"`
		Body    string            `json:"body"`
		Headers map[string]string `json:"headers"`
	} `json:"want"`
}

// handshakeSecret is what env:HANDSHAKE of a vector's source has.
const handshakeSecret = "handshake-secret-0123456789abcdef"

// source decodes the vector's source.
func (v handshakeVector) source(t *testing.T, preset string) provider.Source {
	t.Helper()
	env := map[string]string{"HANDSHAKE": handshakeSecret}
	var names []string
	for i, secret := range v.Secrets {
		name := fmt.Sprintf("S%d", i)
		env[name] = secret
		names = append(names, "env:"+name)
	}
	text := fmt.Sprintf("sources:\n  it:\n    preset: %s\n    secrets: [%s]\n    %s\n",
		preset, strings.Join(names, ", "), strings.ReplaceAll(v.Config, "\n", "\n    "))
	f, err := pipeline.Decode("tercel.yaml", []byte(text), config.WithLookupEnv(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return f.Sources["it"]
}

func readHandshakes(t *testing.T, preset string) handshakeFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "pkg", "provider", "testdata", "handshakes", preset+".json"))
	if err != nil {
		t.Fatalf("a preset with handshakes needs vectors: %v", err)
	}
	var f handshakeFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	if f.Preset != preset || f.Origin == "" || !f.At.Equal(at) {
		t.Fatalf("vectors of %q, from %q, at %s", f.Preset, f.Origin, f.At)
	}
	return f
}

// checkComplete finds what a file lacks for one handshake.
func (f handshakeFile) checkComplete(t *testing.T, name string, h provider.Handshake) {
	t.Helper()
	need := []string{"right", "another method"}
	if !h.Unsigned {
		need = append(need, "wrong secret", "not signed", "rotated")
		if h.Method == http.MethodPost {
			need = append(need, "tampered")
		}
	}
	if len(h.Answer.JSON) > 0 || !h.Answer.Text.IsZero() {
		need = append(need, "markup", "too long")
	}
	if h.Check.String() == "query.hub.verify_token" {
		need = append(need, "wrong token", "no token")
	}
	for _, want := range need {
		if !slices.ContainsFunc(f.Vectors, func(v handshakeVector) bool { return v.Handshake == name && v.Name == want }) {
			t.Errorf("%s: no vector %q", name, want)
		}
	}
}

// Each handshake that a preset has is answered as the provider wants it, by
// whoever may make it, and nothing of it is stored.
func TestHandshakesAgreeWithVectors(t *testing.T) {
	t.Parallel()
	files := map[string]handshakeFile{}
	for _, preset := range provider.PresetNames() {
		p, _ := provider.LookupPreset(preset)
		for name, h := range p.Handshakes {
			if _, ok := files[preset]; !ok {
				files[preset] = readHandshakes(t, preset)
			}
			files[preset].checkComplete(t, name, h)
		}
	}
	var keys []senderKeys
	for _, file := range files {
		keys = append(keys, file.senderKeys)
	}
	f := setupWith(t, ingress.Deps{Outside: worldWith(t, keys...).outside()}, func(c *ingress.Config) {
		c.Sources = map[string]provider.Source{}
		for preset, file := range files {
			for i, v := range file.Vectors {
				c.Sources[fmt.Sprintf("%s-%d", preset, i)] = v.source(t, preset)
			}
		}
	})
	server := httptest.NewServer(f.service.Handler())
	defer server.Close()
	for preset, file := range files {
		for i, v := range file.Vectors {
			v.check(t, server, fmt.Sprintf("%s-%d", preset, i))
		}
	}
	if n := f.stored(); n != 0 {
		t.Errorf("%d messages were stored of handshakes", n)
	}
	entries, err := os.ReadDir(filepath.Join("..", "..", "pkg", "provider", "testdata", "handshakes"))
	if err != nil || len(entries) != len(files) {
		t.Errorf("%d files of vectors for %d presets with handshakes, %v", len(entries), len(files), err)
	}
}

func (v handshakeVector) check(t *testing.T, server *httptest.Server, source string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), v.Method, server.URL+"/v1/"+source+v.Query, strings.NewReader(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range v.Headers {
		r.Header.Add(h[0], h[1])
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatalf("%s, %s: %v", source, v.Name, err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	if resp.StatusCode != v.Want.Status {
		t.Errorf("%s, %s %s: answered %d %s, want %d", source, v.Handshake, v.Name, resp.StatusCode, body, v.Want.Status)
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(h.Get("Content-Type"), "html") || h.Get("Set-Cookie") != "" {
		t.Errorf("%s, %s %s: answered with headers %v", source, v.Handshake, v.Name, h)
	}
	if resp.StatusCode == http.StatusMethodNotAllowed && !slices.Contains(strings.Split(h.Get("Allow"), ", "), http.MethodPost) {
		t.Errorf("%s, %s %s: %d with Allow %q", source, v.Handshake, v.Name, resp.StatusCode, h.Get("Allow"))
	}
	if v.Want.Status >= 300 {
		return
	}
	if h.Get("Content-Type") != v.Want.Type || !sameBody(v.Want.Type, string(body), v.Want.Body) {
		t.Errorf("%s, %s %s: answered %q, %q, want %q, %q", source, v.Handshake, v.Name, h.Get("Content-Type"), body, v.Want.Type, v.Want.Body)
	}
	for name, want := range v.Want.Headers {
		if h.Get(name) != want {
			t.Errorf("%s, %s %s: header %s: %q, want %q", source, v.Handshake, v.Name, name, h.Get(name), want)
		}
	}
}

// sameBody compares JSON by its meaning. Beside it no markup may be in it.
func sameBody(mediaType, got, want string) bool {
	if mediaType != "application/json" {
		return got == want
	}
	var g, w any
	return json.Unmarshal([]byte(got), &g) == nil && json.Unmarshal([]byte(want), &w) == nil &&
		reflect.DeepEqual(g, w) && !strings.ContainsAny(got, "<>&")
}
