package hostile_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// vectors are requests of one preset's provider, genuine and forged; those who made
// them are named in the files. They are years old by now, and so refused where a
// time is signed.
type vectors struct {
	PublicURL string   `json:"public_url"`
	Vectors   []vector `json:"vectors"`
}

type vector struct {
	Name    string      `json:"name"`
	Secrets []string    `json:"secrets"`
	Method  string      `json:"method"`
	URL     string      `json:"url"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
	Want    string      `json:"want"`
}

func (v vector) request(source string) request {
	_, query, ok := strings.Cut(v.URL, "?")
	if ok {
		query = "?" + query
	}
	r := request{line: v.Method + " /v1/" + source + query + " HTTP/1.1", body: v.Body, header: http.Header{"Host": {"hooks.example.com"}}}
	for _, h := range v.Headers {
		name := http.CanonicalHeaderKey(h[0])
		r.header[name] = append(r.header[name], h[1])
	}
	return r
}

// schemeSources are of schemes that no preset has.
const schemeSources = `
  scheme-hmac-sha512:
    verify: {scheme: hmac-sha512, header: X-Signature, format: pairs, timestamp_key: t, signature_key: v1, signed: "{timestamp}.{body}"}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {type: "=a"}
  scheme-jwt-hs256:
    verify: {scheme: jwt-hs256, header: X-Token, body_hash_claim: sha}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {type: "=a"}
`

// presets makes a source of every preset, with the secrets of its first vector.
func presets(t *testing.T) (p part, all map[string]vectors) {
	t.Helper()
	p, all = part{services: []string{"ingress"}, env: map[string]string{}}, map[string]vectors{}
	for _, name := range provider.PresetNames() {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "pkg", "provider", "testdata", "vectors", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var v vectors
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		all[name] = v
		p.sources += "  preset-" + name + ":\n    preset: " + name + "\n"
		if v.PublicURL != "" {
			p.sources += "    public_url: " + v.PublicURL + "\n"
		}
		var secrets []string
		for i, secret := range v.Vectors[0].Secrets {
			env := fmt.Sprintf("SECRET_%s_%d", strings.ToUpper(strings.ReplaceAll(name, "-", "_")), i)
			p.env[env] = secret
			secrets = append(secrets, "env:"+env)
		}
		p.sources += "    secrets: [" + strings.Join(secrets, ", ") + "]\n"
		if preset, _ := provider.LookupPreset(name); preset.SenderKeys.Endpoint != nil {
			p.env["CREDENTIAL"] = "of the API"
			p.sources += "    api: {base: '@API@/keys', allow_private: true, headers: {PLAID-CLIENT-ID: env:CREDENTIAL, PLAID-SECRET: env:CREDENTIAL}}\n"
		}
	}
	p.sources += schemeSources
	return p, all
}

// No scheme and no preset takes what its sender hasn't signed, and each refuses it
// as it says. Nothing of it is stored. (Promise 2.)
func TestForgedSignatures(t *testing.T) {
	p, all := presets(t)
	w := start(t, p)
	genuine := map[string]request{}
	for name, v := range all {
		genuine["preset-"+name] = w.fresh("preset-"+name, v.Vectors[0].request("preset-"+name))
	}
	for _, name := range []string{"scheme-hmac-sha512", "scheme-jwt-hs256"} {
		genuine[name] = w.fresh(name, request{line: "POST /v1/" + name + " HTTP/1.1", body: goodBody, header: http.Header{
			"Host": {"hooks.example.com"}, "Content-Type": {"application/json"},
		}})
	}
	w.taken(genuine)
	w.withstand(w.ingress, func() map[string]attack {
		attacks := map[string]attack{}
		for name, v := range all {
			source := "preset-" + name
			for _, one := range v.Vectors {
				if slices.Equal(one.Secrets, v.Vectors[0].Secrets) && w.refuses(source, one.Want) {
					attacks[source+", vector "+one.Name] = attack{send: one.request(source).String(), want: w.refusal(source)}
				}
			}
		}
		for source, r := range genuine {
			maps.Copy(attacks, w.forgeries(source, w.fresh(source, r)))
		}
		attacks["github with SHA-1 alone"] = attack{send: genuine["preset-github"].with("X-Hub-Signature-256").
			with("X-Hub-Signature", "sha1=0000000000000000000000000000000000000000").String(), want: "401"}
		return attacks
	})
}

// refuses reports whether a vector that is to come out as want is refused by now, and
// without a certificate from the provider's own site, which no test asks for.
func (w *world) refuses(source, want string) bool {
	src := w.source(source)
	if src.SenderKeys.Certificates != nil {
		return slices.Contains([]string{"missing", "malformed", "repeated", "unknown key"}, want)
	}
	return want != "accept" || src.Verifier().Tolerance() > 0
}

// fresh signs a request now, where the sender's part can be played with the secret.
func (w *world) fresh(source string, r request) request {
	src := w.source(source)
	_, query, _ := strings.Cut(strings.Fields(r.line)[1], "?")
	id := r.header.Get(src.Verify.ID)
	if src.Verify.ID != "" && id == "" {
		id = "msg-1"
	}
	keys := src.Keys()
	if len(keys) == 0 {
		return r
	}
	bare := r
	for _, name := range []string{src.Verify.Header, src.Verify.Timestamp} {
		bare = bare.with(http.CanonicalHeaderKey(name))
	}
	added := src.Verifier().SignRequest(keys[0], signature.Request{
		Header: bare.header, Body: []byte(r.body), Method: strings.Fields(r.line)[0], URL: src.CalledURL("_", query),
	}, id, time.Now())
	if added == nil {
		return r
	}
	maps.Copy(bare.header, added)
	return bare
}

// taken checks that the requests that are to be forged are good ones, but for those
// whose time is signed with a key that nobody has here.
func (w *world) taken(genuine map[string]request) {
	w.t.Helper()
	tried := 0
	for source, r := range genuine {
		src := w.source(source)
		mine := src.Verify.Algorithm != signature.Ed25519 && src.Verify.Algorithm != signature.ECDSAP256 &&
			src.Verify.Algorithm != signature.JWTES256 && src.Verify.Algorithm != signature.JWTHS256 && src.Verify.SenderKey == ""
		inBody := src.Verify.Signature != "" || strings.HasPrefix(src.Verify.Timestamp, "body.")
		if !mine || inBody && src.Verifier().Tolerance() > 0 {
			continue
		}
		tried++
		if err := (attack{send: r.String(), want: "2xx"}).try(w.ingress); err != nil {
			w.t.Errorf("%s, genuine: %v", source, err)
		}
	}
	if tried < 40 {
		w.t.Errorf("%d sources were sent something genuine, want at least 40: the forgeries prove nothing", tried)
	}
}

// refusal is what a source answers what it doesn't take for genuine. Some providers
// take a 4xx for the end of the address, and are answered as they ask for.
func (w *world) refusal(source string) string {
	if status := w.source(source).Reply.Refused; status != 0 {
		return fmt.Sprintf("4xx|%d", status)
	}
	return "4xx"
}

// spoils make something else of the value of a signature's header, whatever it is.
func spoils(value string) map[string][]string {
	flipped := []byte(value)
	flipped[len(flipped)/2] ^= 1
	if flipped[len(flipped)/2] < ' ' {
		flipped[len(flipped)/2] = '~'
	}
	return map[string][]string{
		"absent":             nil,
		"empty":              {""},
		"blank":              {" \t "},
		"twice":              {value, value},
		"a list of it":       {strings.TrimSuffix(strings.Repeat(value+", ", 200), ", ")},
		"300 times":          slices.Repeat([]string{value}, 300),
		"after a forged one": {strings.Repeat("0", len(value)), value},
		"cut":                {value[:len(value)-1]},
		"cut to one":         {value[:1]},
		"longer":             {value + "0"},
		"a bit another":      {string(flipped)},
		"zeros":              {strings.Repeat("0", 64)},
		"20 KiB":             {strings.Repeat("0", 20<<10)},
		"null":               {"null"},
		"another algorithm":  {"none=" + value},
		"another version":    {"v0=" + value + ",v2=" + value},
		"percent":            {"%" + value},
		"not ASCII":          {value + "\u0661\u0662\u00e9"},
		"not UTF-8":          {value + "\xff\xfe"},
		"quoted":             {`"` + value + `"`},
		"two pairs of time":  {"t=1,t=9999999999," + value},
	}
}

// times are what no clock says.
var times = map[string]string{
	"of 1970": "0", "of last year": "1760000000", "of the far future": "99999999999", "overflowing": "99999999999999999999999", "below zero": "-1",
	"with a point": "1760000000.5", "with an exponent": "1e10", "in hex": "0x68e7a000", "with a plus": "+1760000000", "with a zero": "01760000000",
	"of Arabic digits": "١٧٦٠٠٠٠٠٠٠", "NaN": "NaN", "zzz": "zzz", "year 0": "0000-01-01T00:00:00Z", "year 9999": "9999-12-31T23:59:59Z", "the end of int64": "9223372036854775807",
}

// forgeries spoil each part of a genuine request that its scheme looks at.
func (w *world) forgeries(source string, r request) map[string]attack {
	src, all := w.source(source), map[string]attack{}
	if src.SenderKeys.Certificates != nil {
		return nil // as above
	}
	add := func(name string, r request) {
		all[source+", "+name] = attack{send: r.String(), want: w.refusal(source)}
	}
	names := []string{src.Verify.Header, src.Verify.SecondHeader, src.Verify.ID}
	if src.Verify.HeaderSeries != "" {
		names = append(names, src.Verify.HeaderSeries+"1")
	}
	for _, name := range names {
		name = http.CanonicalHeaderKey(name)
		if value := r.header.Get(name); value != "" {
			for what, values := range spoils(value) {
				if what == "two pairs of time" && src.Verify.TimestampKey == "" {
					continue // two pairs of nothing
				}
				add(name+" "+what, r.with(name, values...))
			}
		}
	}
	if name := http.CanonicalHeaderKey(src.Verify.Timestamp); r.header.Get(name) != "" {
		for what, value := range times {
			add(name+" "+what, r.with(name, value))
		}
		for _, what := range []string{"absent", "empty", "twice", "20 KiB", "not UTF-8"} {
			add(name+" "+what, r.with(name, spoils(r.header.Get(name))[what]...))
		}
	}
	credential := slices.Contains([]signature.Algorithm{signature.Token, signature.Bearer, signature.Basic}, src.Verify.Algorithm)
	if src.Verifier().Covers() && !credential {
		longer, shorter := r, r
		longer.body += " "
		shorter.body = r.body[:len(r.body)-1]
		add("a body that is longer", longer)
		add("a body that is shorter", shorter)
	}
	return all
}
