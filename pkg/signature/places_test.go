package signature_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

// requestTest is a whole request, and the step and sentinel it should fail with.
type requestTest struct {
	scheme  string
	secret  string
	request signature.Request
	at      time.Time
	step    string
	want    error
}

func runRequests(t *testing.T, tests map[string]requestTest) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.secret == "" {
				tt.secret = secret
			}
			if tt.at.IsZero() {
				tt.at = at
			}
			v := compile(t, tt.scheme)
			var keys []signature.Key
			if v.NeedsKey() {
				keys = []signature.Key{key(t, tt.scheme, tt.secret)}
			}
			checkError(t, v, v.Verify(tt.request, keys, tt.at), tt.step, tt.want)
		})
	}
}

func TestSignatureInTheBody(t *testing.T) {
	t.Parallel()
	const scheme = `{scheme: hmac-sha256, signature: body.a.sig, timestamp: body.a.t, signed: "{timestamp}{json:a.token}", partial_body: true}`
	body := func(sig, timestamp string) signature.Request {
		return signature.Request{Body: fmt.Appendf(nil, `{"a":{"sig":%q,"t":%q,"token":"tok"},"rest":1}`, sig, timestamp)}
	}
	raw := func(text string) signature.Request { return signature.Request{Body: []byte(text)} }
	good := hmacHex("1760000000tok")
	const items = `{scheme: hmac-sha256, signature: body.items.0.sig, signed: "{json:items.0.id}:{json:items.0.none}", partial_body: true}`
	item := `{"sig":"` + hmacHex("7:") + `","id":7}`
	runRequests(t, map[string]requestTest{
		"good":              {scheme: scheme, request: body(good, "1760000000")},
		"another time":      {scheme: scheme, request: body(good, "1760000001"), step: signature.StepMatch, want: signature.ErrMismatch},
		"stale":             {scheme: scheme, request: body(good, "1760000000"), at: at.Add(time.Hour), step: signature.StepWindow, want: signature.ErrStale},
		"empty":             {scheme: scheme, request: body("", "1760000000"), step: signature.StepHeader, want: signature.ErrMissing},
		"no JSON":           {scheme: scheme, request: raw("a=b"), step: signature.StepHeader, want: signature.ErrMalformed},
		"no body":           {scheme: scheme, request: raw(""), step: signature.StepHeader, want: signature.ErrMalformed},
		"doubled name":      {scheme: scheme, request: raw(`{"a":{},"a":{"sig":"` + good + `"}}`), step: signature.StepHeader, want: signature.ErrMalformed},
		"an object":         {scheme: scheme, request: raw(`{"a":{"sig":{}}}`), step: signature.StepHeader, want: signature.ErrMalformed},
		"one item":          {scheme: items, request: raw(`{"items":[` + item + `]}`)},
		"an item too many":  {scheme: items, request: raw(`{"items":[` + item + `,{"id":8}]}`), step: signature.StepHeader, want: signature.ErrMalformed},
		"an object of name": {scheme: items, request: raw(`{"items":{"0":` + item + `}}`)},
	})
}

func TestForms(t *testing.T) {
	t.Parallel()
	form := func(body string) signature.Request {
		return signature.Request{Header: headers("Content-Type", "application/x-www-form-urlencoded; charset=utf-8", "X-Sig", hmacHex("https://example.com/xAbBcDc")), Body: []byte(body), URL: "https://example.com/x"}
	}
	digest := sha1.Sum([]byte(secret))
	mac := hmac.New(sha1.New, digest[:])
	mac.Write([]byte("payload"))
	braintree := "p|" + hex.EncodeToString(mac.Sum(nil))
	const inForm = `{scheme: hmac-sha1, key: {encoding: sha1}, signature: form.sig, format: tokens, list_separator: "&", pair_separator: "|", signature_key: "*", signed: "{form:p}", partial_body: true}`
	const sorted = `{scheme: hmac-sha256, header: X-Sig, signed: "{url}{form_sorted}"}`
	query := "https://example.com/x?bodySHA256=" + sumHex("{}")
	hashed := func(called, body string) signature.Request {
		return signature.Request{Header: headers("Content-Type", "application/json", "X-Sig", hmacHex(called)), Body: []byte(body), URL: called}
	}
	signed := func(fields string) signature.Request { return form(fields) }
	runRequests(t, map[string]requestTest{
		"in order":             {scheme: sorted, request: signed("A=b&B=c&D=c")},
		"out of order":         {scheme: sorted, request: signed("D=c&B=c&A=b")},
		"the same value twice": {scheme: sorted, request: signed("D=c&B=c&A=b&D=c")},
		"another value":        {scheme: sorted, request: signed("D=d&B=c&A=b"), step: signature.StepMatch, want: signature.ErrMismatch},
		"one value more":       {scheme: sorted, request: signed("D=c&B=c&A=b&D=d"), step: signature.StepMatch, want: signature.ErrMismatch},
		"no form":              {scheme: sorted, request: signed("%zz"), step: signature.StepSigned, want: signature.ErrMalformed},
		"too many fields":      {scheme: sorted, request: signed(strings.Repeat("a=b&", 1000)), step: signature.StepSigned, want: signature.ErrMalformed},
		"JSON and its hash":    {scheme: sorted, request: hashed(query, "{}")},
		"JSON of other hash":   {scheme: sorted, request: hashed(query, "[]"), step: signature.StepSigned, want: signature.ErrMismatch},
		"JSON without a hash":  {scheme: sorted, request: hashed("https://example.com/x", "{}"), step: signature.StepSigned, want: signature.ErrMismatch},
		"URL not known":        {scheme: sorted, request: signature.Request{Header: headers("X-Sig", hmacHex(""))}, step: signature.StepSigned, want: signature.ErrMissing},
		"signature in a form":  {scheme: inForm, request: form(url.Values{"sig": {"other|00&" + braintree}, "p": {"payload"}}.Encode())},
		"payload twice":        {scheme: inForm, request: form(url.Values{"sig": {braintree}, "p": {"payload", "x"}}.Encode()), step: signature.StepSigned, want: signature.ErrRepeated},
		"signature twice":      {scheme: inForm, request: form(url.Values{"sig": {braintree, braintree}, "p": {"payload"}}.Encode()), step: signature.StepHeader, want: signature.ErrRepeated},
		"no payload":           {scheme: inForm, request: form(url.Values{"sig": {braintree}}.Encode()), step: signature.StepSigned, want: signature.ErrMissing},
		"form as JSON":         {scheme: inForm, request: signature.Request{Header: headers("Content-Type", "application/json"), Body: []byte("sig=x")}, step: signature.StepHeader, want: signature.ErrMalformed},
	})
}

func sumHex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestSeveralHeaders(t *testing.T) {
	t.Parallel()
	const two = `{scheme: hmac-sha256, header: A, second_header: B}`
	const series = `{scheme: hmac-sha256, header_series: Sig-}`
	r := func(namesAndValues ...string) signature.Request {
		return signature.Request{Header: headers(namesAndValues...), Body: []byte(payload)}
	}
	runRequests(t, map[string]requestTest{
		"the first":         {scheme: two, request: r("A", bodyHex)},
		"the second":        {scheme: two, request: r("B", bodyHex)},
		"second of two":     {scheme: two, request: r("A", wrong, "B", bodyHex)},
		"neither matches":   {scheme: two, request: r("A", wrong, "B", wrong), step: signature.StepMatch, want: signature.ErrMismatch},
		"neither is there":  {scheme: two, request: r(), step: signature.StepHeader, want: signature.ErrMissing},
		"one is repeated":   {scheme: two, request: r("A", bodyHex, "B", bodyHex, "B", bodyHex), step: signature.StepHeader, want: signature.ErrRepeated},
		"one is empty":      {scheme: two, request: r("A", bodyHex, "B", ""), step: signature.StepHeader, want: signature.ErrMalformed},
		"third of a series": {scheme: series, request: r("Sig-1", wrong, "Sig-2", wrong, "Sig-3", bodyHex)},
		"sixteenth":         {scheme: series, request: r("Sig-16", bodyHex)},
		"seventeenth":       {scheme: series, request: r("Sig-17", bodyHex), step: signature.StepHeader, want: signature.ErrMissing},
	})
}

func TestSignedParts(t *testing.T) {
	t.Parallel()
	r := func(signed string, edit func(*signature.Request)) signature.Request {
		q := signature.Request{Header: headers("S", hmacHex(signed)), Body: []byte(payload), Method: "POST", URL: "https://example.com/a%20b?c=d"}
		if edit != nil {
			edit(&q)
		}
		return q
	}
	const canonical = `{scheme: hmac-sha256, header: S, timestamp: X-Time, timestamp_unit: ms, signed: "{method}\n{path}\n{signed_headers:X-Names}\n{body}"}`
	names := func(list string) func(*signature.Request) {
		return func(q *signature.Request) {
			q.Header.Set("X-Names", list)
			q.Header.Set("X-Time", "1760000000000")
		}
	}
	withList := "POST\n/a%20b?c=d\nx-names:x-names,x-time;x-time:1760000000000\n" + payload
	runRequests(t, map[string]requestTest{
		"method and URL":     {scheme: `{scheme: hmac-sha256, header: S, signed: "{method}{url}{body}"}`, request: r("POSThttps://example.com/a%20b?c=d"+payload, nil)},
		"path":               {scheme: `{scheme: hmac-sha256, header: S, signed: "{path}{body}"}`, request: r("/a%20b?c=d"+payload, nil)},
		"no path":            {scheme: `{scheme: hmac-sha256, header: S, signed: "{path}{body}"}`, request: r("/"+payload, func(q *signature.Request) { q.URL = "https://example.com" })},
		"hash of the body":   {scheme: `{scheme: hmac-sha256, header: S, signed: "a{body_sha256}"}`, request: r("a"+sumHex(payload), nil)},
		"crc of the body":    {scheme: `{scheme: hmac-sha256, header: S, signed: "a{body_crc32}"}`, request: r("a3421780262", func(q *signature.Request) { q.Body = []byte("123456789") })},
		"lines":              {scheme: `{scheme: hmac-sha256, header: S, partial_body: true, signed: "{json_lines:none type}"}`, request: r("type\norder.paid\n", nil)},
		"secret in front":    {scheme: `{scheme: sha256, header: S}`, request: signature.Request{Header: headers("S", sumHex(secret+payload)), Body: []byte(payload)}},
		"RFC 3339":           {scheme: `{scheme: hmac-sha256, header: S, timestamp: T, timestamp_unit: rfc3339, signed: "{timestamp}{body}"}`, request: r("2025-10-09T08:53:20+00:00"+payload, func(q *signature.Request) { q.Header.Set("T", "2025-10-09T08:53:20+00:00") })},
		"no RFC 3339":        {scheme: `{scheme: hmac-sha256, header: S, timestamp: T, timestamp_unit: rfc3339, signed: "{timestamp}{body}"}`, request: r("1760000000"+payload, func(q *signature.Request) { q.Header.Set("T", "1760000000") }), step: signature.StepTimestamp, want: signature.ErrMalformed},
		"time in the body":   {scheme: `{scheme: hmac-sha256, header: S, timestamp: body.t, timestamp_unit: ms}`, request: r(`{"t":1760000000000}`, func(q *signature.Request) { q.Body = []byte(`{"t":1760000000000}`) })},
		"no time in it":      {scheme: `{scheme: hmac-sha256, header: S, timestamp: body.t, timestamp_unit: ms}`, request: r(payload, nil), step: signature.StepTimestampHeader, want: signature.ErrMissing},
		"headers of a list":  {scheme: canonical, request: r(withList, names("x-names,x-time"))},
		"list without time":  {scheme: canonical, request: r(withList, names("x-names")), step: signature.StepSigned, want: signature.ErrMissing},
		"list without list":  {scheme: canonical, request: r(withList, names("x-time")), step: signature.StepSigned, want: signature.ErrMissing},
		"list of no headers": {scheme: canonical, request: r(withList, names("x-names,x-time,a b")), step: signature.StepSigned, want: signature.ErrMalformed},
		"list of the absent": {scheme: canonical, request: r(withList, names("x-names,x-time,x-none")), step: signature.StepSigned, want: signature.ErrMissing},
		"long list":          {scheme: canonical, request: r(withList, names("x-names,x-time"+strings.Repeat(",a", 32))), step: signature.StepSigned, want: signature.ErrMalformed},
	})
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	const token, bearer, basic = `{scheme: token, header: X-Token, prefix: "Token "}`, `{scheme: bearer}`, `{scheme: basic}`
	r := func(namesAndValues ...string) signature.Request {
		return signature.Request{Header: headers(namesAndValues...)}
	}
	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	runRequests(t, map[string]requestTest{
		"token":                 {scheme: token, request: r("X-Token", "Token "+secret)},
		"another token":         {scheme: token, request: r("X-Token", "Token another secret"), step: signature.StepMatch, want: signature.ErrMismatch},
		"begin of the token":    {scheme: token, request: r("X-Token", "Token "+secret[:20]), step: signature.StepMatch, want: signature.ErrMismatch},
		"no prefix":             {scheme: token, request: r("X-Token", secret), step: signature.StepFormat, want: signature.ErrMalformed},
		"no token":              {scheme: token, request: r(), step: signature.StepHeader, want: signature.ErrMissing},
		"empty token":           {scheme: token, request: r("X-Token", ""), step: signature.StepHeader, want: signature.ErrMalformed},
		"two tokens":            {scheme: token, request: r("X-Token", "Token "+secret, "X-Token", "Token "+secret), step: signature.StepHeader, want: signature.ErrRepeated},
		"token in the body":     {scheme: `{scheme: token, signature: body.token}`, request: signature.Request{Body: []byte(`{"token":"` + secret + `"}`)}},
		"bearer":                {scheme: bearer, request: r("Authorization", "bearer "+secret)},
		"bearer, basic's":       {scheme: bearer, request: r("Authorization", "Basic "+secret), step: signature.StepFormat, want: signature.ErrMalformed},
		"basic":                 {scheme: basic, secret: "user:" + secret, request: r("Authorization", "Basic "+encoded)},
		"basic, other user":     {scheme: basic, secret: "usex:" + secret, request: r("Authorization", "Basic "+encoded), step: signature.StepMatch, want: signature.ErrMismatch},
		"nothing, as is wanted": {scheme: `{scheme: none, insecure: true}`, request: r()},
	})
}

// A key pair of the test, since only senders have private keys.
func TestPublicKeys(t *testing.T) {
	t.Parallel()
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	const edScheme = `{scheme: ed25519, header: S, timestamp: T, signed: "{timestamp}{body}", key: {encoding: hex}}`
	const ecScheme = `{scheme: ecdsa-p256-sha256, header: S, encoding: base64, timestamp: T, signed: "{timestamp}{body}"}`
	digest := sha256.Sum256([]byte("1760000000" + payload))
	ecSum, err := ecdsa.SignASN1(rand.Reader, ec, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	edSum := hex.EncodeToString(ed25519.Sign(edPrivate, []byte("1760000000"+payload)))
	r := func(sum, body string) signature.Request {
		return signature.Request{Header: headers("S", sum, "T", "1760000000"), Body: []byte(body)}
	}
	edKey, ecKey, ecText := hex.EncodeToString(edPublic), base64.StdEncoding.EncodeToString(der), base64.StdEncoding.EncodeToString(ecSum)
	ecPEM := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	runRequests(t, map[string]requestTest{
		"ed25519":              {scheme: edScheme, secret: edKey, request: r(edSum, payload)},
		"ed25519, other body":  {scheme: edScheme, secret: edKey, request: r(edSum, "{}"), step: signature.StepMatch, want: signature.ErrMismatch},
		"ed25519, zeros":       {scheme: edScheme, secret: edKey, request: r(wrong+wrong, payload), step: signature.StepMatch, want: signature.ErrMismatch},
		"ed25519, cut":         {scheme: edScheme, secret: edKey, request: r(edSum[:126], payload), step: signature.StepFormat, want: signature.ErrMalformed},
		"ecdsa":                {scheme: ecScheme, secret: ecKey, request: r(ecText, payload)},
		"ecdsa, key in PEM":    {scheme: ecScheme, secret: ecPEM, request: r(ecText, payload)},
		"ecdsa, other body":    {scheme: ecScheme, secret: ecKey, request: r(ecText, "{}"), step: signature.StepMatch, want: signature.ErrMismatch},
		"ecdsa, no DER":        {scheme: ecScheme, secret: ecKey, request: r("AAAA", payload), step: signature.StepMatch, want: signature.ErrMismatch},
		"ecdsa, no base64":     {scheme: ecScheme, secret: ecKey, request: r("é", payload), step: signature.StepFormat, want: signature.ErrMalformed},
		"ecdsa, too long":      {scheme: ecScheme, secret: ecKey, request: r(strings.Repeat("AAAA", 40), payload), step: signature.StepFormat, want: signature.ErrMalformed},
		"ecdsa, line ends":     {scheme: ecScheme, secret: ecKey, request: r(ecText[:8]+"\n"+ecText[8:], payload), step: signature.StepFormat, want: signature.ErrMalformed},
		"stale":                {scheme: edScheme, secret: edKey, request: r(edSum, payload), at: at.Add(time.Hour), step: signature.StepWindow, want: signature.ErrStale},
		"key of another party": {scheme: ecScheme, secret: ecKey, request: r(otherECDSA(t, digest[:]), payload), step: signature.StepMatch, want: signature.ErrMismatch},
	})
	for _, bad := range []string{"", "zz", edKey[2:], ecKey} {
		if _, err := signature.ParseKey(scheme(t, edScheme), bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("ParseKey(%q) = %v, want an error that doesn't quote it", bad, err)
		}
	}
	if _, err := signature.ParseKey(scheme(t, ecScheme), edKey); err == nil {
		t.Error("a key of another kind was taken for one of P-256")
	}
}

func otherECDSA(t *testing.T, digest []byte) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := ecdsa.SignASN1(rand.Reader, k, digest)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sum)
}

func TestTokensOverTheBody(t *testing.T) {
	t.Parallel()
	const hs = `{scheme: jwt-hs256, header: Authorization, prefix: "Bearer ", body_hash_claim: hash}`
	raw := base64.RawURLEncoding.EncodeToString
	sign := func(head, claims string) signature.Request {
		text := raw([]byte(head)) + "." + raw([]byte(claims))
		sum, err := hex.DecodeString(hmacHex(text))
		if err != nil {
			t.Fatal(err)
		}
		return signature.Request{Header: headers("Authorization", "Bearer "+text+"."+raw(sum)), Body: []byte(payload)}
	}
	const head = `{"alg":"HS256"}`
	claims := `{"iat":1760000000,"hash":"` + sumHex(payload) + `"}`
	altered := sign(head, claims)
	altered.Body = []byte("{}")
	short := sign(head, claims)
	short.Header.Set("Authorization", "Bearer a.b")
	runRequests(t, map[string]requestTest{
		"good":               {scheme: hs, request: sign(head, claims)},
		"stale":              {scheme: hs, request: sign(head, claims), at: at.Add(time.Hour), step: signature.StepWindow, want: signature.ErrStale},
		"future":             {scheme: hs, request: sign(head, claims), at: at.Add(-time.Hour), step: signature.StepWindow, want: signature.ErrFuture},
		"another body":       {scheme: hs, request: altered, step: signature.StepBody, want: signature.ErrMismatch},
		"another secret":     {scheme: hs, secret: "another secret of the docs", request: sign(head, claims), step: signature.StepMatch, want: signature.ErrMismatch},
		"algorithm none":     {scheme: hs, request: sign(`{"alg":"none"}`, claims), step: signature.StepFormat, want: signature.ErrMalformed},
		"two algorithms":     {scheme: hs, request: sign(`{"alg":"HS256","alg":"none"}`, claims), step: signature.StepFormat, want: signature.ErrMalformed},
		"no time":            {scheme: hs, request: sign(head, `{"hash":"`+sumHex(payload)+`"}`), step: signature.StepTimestamp, want: signature.ErrMalformed},
		"no hash":            {scheme: hs, request: sign(head, `{"iat":1760000000}`), step: signature.StepBody, want: signature.ErrMismatch},
		"two parts":          {scheme: hs, request: short, step: signature.StepFormat, want: signature.ErrMalformed},
		"no token":           {scheme: hs, request: signature.Request{}, step: signature.StepHeader, want: signature.ErrMissing},
		"nothing in a token": {scheme: hs, request: signature.Request{Header: headers("Authorization", "Bearer ..")}, step: signature.StepFormat, want: signature.ErrMalformed},
	})
}

// What a token or a signature over a part vouches for decides whether an id in
// the body can be trusted.
func TestWhatIsCovered(t *testing.T) {
	t.Parallel()
	partial := compile(t, `{scheme: hmac-sha256, signature: body.s, signed: "{json:a.b}{json_lines:c d}", partial_body: true}`)
	for path, want := range map[string]bool{"a.b": true, "c": true, "d": true, "a": false, "e": false, "s": false} {
		if got := partial.CoversJSON(path); got != want {
			t.Errorf("CoversJSON(%s) = %t, want %t", path, got, want)
		}
	}
	if partial.Covers() || compile(t, `{scheme: none, insecure: true}`).CoversJSON("a") || !compile(t, github).CoversJSON("a") {
		t.Error("what covers the body is mistaken for what doesn't")
	}
	if compile(t, github).NeedsURL() || !compile(t, `{scheme: hmac-sha256, header: S, signed: "{path}{body}"}`).NeedsURL() {
		t.Error("NeedsURL() is wrong")
	}
	if steps := compile(t, `{scheme: none, insecure: true}`).Steps(); !slices.Equal(steps, []string{signature.StepNone}) {
		t.Errorf("Steps() of none = %q", steps)
	}
}

// No request makes a panic or an unknown step of the parsers that look inside
// the body, and none is genuine without the signature over what it says.
func FuzzVerifyBody(f *testing.F) {
	f.Add("application/json", []byte(`{"a":[{"s":"00","t":"1760000000","x":"y"}]}`), "Bearer a.b.c")
	f.Add("application/x-www-form-urlencoded", []byte(`s=p%7C00&x=y`), "x-names,x-time")
	f.Add("", []byte{}, "")
	schemes := []string{
		`{scheme: hmac-sha256, signature: body.a.0.s, timestamp: body.a.0.t, signed: "{timestamp}{json:a.0.x}{json_lines:b c}", partial_body: true}`,
		`{scheme: hmac-sha256, signature: form.s, format: tokens, list_separator: "&", pair_separator: "|", signature_key: "*", signed: "{form:x}", partial_body: true}`,
		`{scheme: hmac-sha256, header: S, signed: "{url}{form_sorted}{signed_headers:L}"}`,
		`{scheme: jwt-hs256, header: S, prefix: "Bearer ", body_hash_claim: h}`,
		`{scheme: bearer, header: S}`,
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte, value string) {
		r := signature.Request{Header: http.Header{"Content-Type": {contentType}, "S": {value}, "L": {value}}, Body: body, URL: "https://example.com/?" + value}
		for _, text := range schemes {
			v := compile(t, text)
			err := v.Verify(r, []signature.Key{key(t, text, secret)}, at)
			if err == nil && !strings.Contains(value, secret) {
				t.Errorf("%s took %q, %q", text, value, body)
			}
			checkFuzzed(t, v, err)
		}
	})
}
