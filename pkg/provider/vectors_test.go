package provider_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// vectorFile is a file of testdata/vectors, made by scripts/vectors.
type vectorFile struct {
	Preset    string `json:"preset"`
	Origin    string `json:"origin"` // who made the signatures, or accepted them
	PublicURL string `json:"public_url"`
	// Keys are the sender's keys that requests name, as PEM or JSON.
	Keys    map[string]string `json:"keys"`
	Vectors []vector          `json:"vectors"`
}

// vector is one request and what has to become of it.
type vector struct {
	Name    string      `json:"name"`
	Secrets []string    `json:"secrets"`
	At      time.Time   `json:"at"` // when it is checked
	Method  string      `json:"method"`
	URL     string      `json:"url"` // that was called, where it isn't public_url
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
	Want    string      `json:"want"`    // accept, or the sentinel's text
	Library string      `json:"library"` // what the provider's own library does: not always the same
	Event   *struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	} `json:"event"`
}

// everyPreset are the cases without which a preset isn't tested.
var everyPreset = []string{"valid", "tampered", "wrong secret", "rotated", "unicode", "empty body", "missing"}

var sentinels = map[string]error{
	"accept": nil, "missing": signature.ErrMissing, "repeated": signature.ErrRepeated, "malformed": signature.ErrMalformed,
	"mismatch": signature.ErrMismatch, "stale": signature.ErrStale, "future": signature.ErrFuture, "unknown key": errUnknownKey,
}

// errUnknownKey is what becomes of a request that names a key which isn't the
// sender's.
var errUnknownKey = errors.New("unknown key")

func readVectors(t *testing.T, preset string) vectorFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", preset+".json"))
	if err != nil {
		t.Fatalf("a preset needs vectors: %v", err)
	}
	var f vectorFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// Each preset accepts what its provider sends and refuses what anyone else does.
func TestPresetsAgreeWithVectors(t *testing.T) {
	t.Parallel()
	for _, name := range provider.PresetNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := readVectors(t, name)
			p, _ := provider.LookupPreset(name)
			checkComplete(t, p, f)
			for _, v := range f.Vectors {
				t.Run(v.Name, func(t *testing.T) {
					t.Parallel()
					v.check(t, f)
				})
			}
		})
	}
}

// checkComplete finds what a file of vectors lacks.
func checkComplete(t *testing.T, p *provider.Preset, f vectorFile) {
	t.Helper()
	var names []string
	for _, v := range f.Vectors {
		names = append(names, v.Name)
	}
	need := slices.Clone(everyPreset)
	if p.Verify.Timestamp != "" || p.Verify.TimestampKey != "" || p.Verify.BodyHashClaim != "" {
		need = append(need, "stale", "future")
	}
	if p.Verify.Signature == "" {
		need = append(need, "duplicated header")
	} else {
		need = append(need, "duplicated")
	}
	for _, n := range need {
		if !slices.Contains(names, n) {
			t.Errorf("no vector %q", n)
		}
	}
	if f.Origin == "" {
		t.Error("a file of vectors says who made them")
	}
}

func (v vector) check(t *testing.T, f vectorFile) {
	s := v.source(t, f)
	h := http.Header{}
	for _, nameAndValue := range v.Headers {
		h.Add(nameAndValue[0], nameAndValue[1])
	}
	query := ""
	if v.URL != "" {
		_, query, _ = strings.Cut(v.URL, "?")
	}
	r := signature.Request{Header: h, Body: []byte(v.Body), Method: v.Method, URL: s.CalledURL(event.NoAccount, query)}
	want, ok := sentinels[v.Want]
	if !ok {
		t.Fatalf("want is %q", v.Want)
	}
	err := f.supply(t, s, &r)
	if err == nil {
		_, err = s.CheckSignature(r, s.Keys(), v.At)
	}
	if !errors.Is(err, want) {
		t.Fatalf("CheckSignature() = %v, want %s (%s)", err, v.Want, f.Origin)
	}
	if v.Event != nil {
		v.checkEvent(t, s, h)
	}
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if want == nil && !s.Takes(mediaType) {
		t.Errorf("content type %q isn't taken", mediaType)
	}
}

// supply gives the request the sender's key that it names, where its scheme has
// such keys.
func (f vectorFile) supply(t *testing.T, s *provider.Source, r *signature.Request) error {
	t.Helper()
	if !s.Verifier().FetchesKey() {
		return nil
	}
	name, err := s.Verifier().KeyName(*r, s.Keys())
	if err != nil {
		return err
	}
	text, ok := f.Keys[name]
	if s.SenderKeys.Names(name) != ok && !strings.HasPrefix(name, "vector-key-") {
		t.Errorf("Names(%s) = %t", name, !ok)
	}
	if !ok {
		return errUnknownKey
	}
	r.Sender, err = signature.NewSenderKey(s.Verify.Algorithm, publicKey(t, text))
	return err
}

// publicKey reads a certificate in PEM, or a JSON Web Key.
func publicKey(t *testing.T, text string) crypto.PublicKey {
	t.Helper()
	if block, _ := pem.Decode([]byte(text)); block != nil {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c.PublicKey
	}
	var jwk struct{ X, Y string }
	if err := json.Unmarshal([]byte(text), &jwk); err != nil {
		t.Fatal(err)
	}
	point := []byte{4}
	for _, coordinate := range []string{jwk.X, jwk.Y} {
		b, err := base64.RawURLEncoding.DecodeString(coordinate)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// source decodes a source of the vector's preset.
func (v vector) source(t *testing.T, f vectorFile) *provider.Source {
	t.Helper()
	text := "preset: " + f.Preset + "\n"
	if f.PublicURL != "" {
		text += "public_url: " + f.PublicURL + "\n"
	}
	env := map[string]string{}
	var names []string
	for i, secret := range v.Secrets {
		name := fmt.Sprintf("S%d", i)
		env[name] = secret
		names = append(names, "env:"+name)
	}
	text += "secrets: [" + strings.Join(names, ", ") + "]\n"
	if p, _ := provider.LookupPreset(f.Preset); p.SenderKeys.Endpoint != nil {
		env["CREDENTIAL"] = "of the API"
		text += "api: {headers: {PLAID-CLIENT-ID: env:CREDENTIAL, PLAID-SECRET: env:CREDENTIAL}}\n"
	}
	s := &provider.Source{}
	err := config.Decode("source.yaml", []byte(text), s, config.WithLookupEnv(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (v vector) checkEvent(t *testing.T, s *provider.Source, h http.Header) {
	t.Helper()
	scope := field.Scope{Header: h.Get, Docs: map[string][]byte{"body": []byte(v.Body), "form": formDoc(t, v.Body)}}
	if !s.Event.Split.IsZero() {
		items, err := s.Event.Split.Items([]byte(v.Body))
		if err != nil || len(items) == 0 {
			t.Fatalf("Items() = %d items, %v", len(items), err)
		}
		scope.Docs["item"] = items[0]
	}
	typ, err := s.Event.Type.First(scope)
	if err != nil || typ != v.Event.Type {
		t.Errorf("type = %q, %v, want %q", typ, err, v.Event.Type)
	}
	if v.Event.ID == "" && len(s.Event.ID) == 0 {
		return
	}
	id, err := s.Event.ID.First(scope)
	if err != nil || id != v.Event.ID {
		t.Errorf("id = %q, %v, want %q", id, err, v.Event.ID)
	}
}

// formDoc is a form as the JSON document that expressions over form look into.
func formDoc(t *testing.T, body string) []byte {
	t.Helper()
	fields := map[string]string{}
	if values, err := url.ParseQuery(body); err == nil {
		for name := range values {
			fields[name] = values.Get(name)
		}
	}
	doc, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// A file of vectors that no preset reads tests nothing.
func TestEveryFileOfVectorsHasItsPreset(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(filepath.Join("testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".json")
		if _, ok := provider.LookupPreset(name); !ok || readVectors(t, name).Preset != name {
			t.Errorf("%s belongs to no preset", file.Name())
		}
	}
}
