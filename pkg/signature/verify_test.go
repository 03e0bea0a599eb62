package signature_test

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

// Another secret's signature of the same string, by the same openssl command
// with -hmac "another secret of the docs".
const otherTimeDotBody = "9cf9d33037d5cd8925e127167285d16a98aaadaf84af9df60eee407aede96f1c"

const wrong = "0000000000000000000000000000000000000000000000000000000000000000"

// verifyTest is a request and the step and sentinel it should fail with.
type verifyTest struct {
	scheme string
	header http.Header
	body   string        // payload where empty
	keys   []string      // secret where nil
	after  time.Duration // from signing to verifying
	step   string
	want   error
}

func runVerify(t *testing.T, tests map[string]verifyTest) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.body == "" {
				tt.body = payload
			}
			if tt.keys == nil {
				tt.keys = []string{secret}
			}
			var keys []signature.Key
			for _, s := range tt.keys {
				keys = append(keys, key(t, tt.scheme, s))
			}
			v := compile(t, tt.scheme)
			err := v.Verify(signature.Request{Header: tt.header, Body: []byte(tt.body)}, keys, at.Add(tt.after))
			checkError(t, v, err, tt.step, tt.want)
		})
	}
}

func checkError(t *testing.T, v *signature.Verifier, err error, step string, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("Verify() = %v, want %v", err, want)
	}
	if want == nil || err == nil {
		return
	}
	var e *signature.Error
	if !errors.As(err, &e) || e.Step != step || !slices.Contains(v.Steps(), e.Step) {
		t.Errorf("Verify() = %v, want it at step %q, one of %q", err, step, v.Steps())
	}
	for _, text := range []string{secret, bodyHex, timeDotBody, bodyBase64, "order.paid"} {
		if strings.Contains(err.Error(), text) {
			t.Errorf("Verify() = %v, which has %q in it", err, text)
		}
	}
}

func TestVerifyRaw(t *testing.T) {
	t.Parallel()
	const bare = `{scheme: hmac-sha256, header: X-Signature}`
	const base64 = `{scheme: hmac-sha256, header: X-Signature, encoding: base64}`
	sig := func(values ...string) http.Header { return http.Header{"X-Signature": values} }
	hub := func(values ...string) http.Header { return http.Header{"X-Hub-Signature-256": values} }
	runVerify(t, map[string]verifyTest{
		"good":                        {scheme: bare, header: sig(bodyHex)},
		"upper hex":                   {scheme: bare, header: sig(strings.ToUpper(bodyHex))},
		"whitespace around":           {scheme: bare, header: sig("\t " + bodyHex + " ")},
		"whitespace inside":           {scheme: github, header: hub("sha256= " + bodyHex), step: "signature format", want: signature.ErrMalformed},
		"other whitespace around":     {scheme: bare, header: sig(bodyHex + "\u00a0"), step: "signature format", want: signature.ErrMalformed},
		"line end":                    {scheme: bare, header: sig(bodyHex + "\n"), step: "signature format", want: signature.ErrMalformed},
		"tampered body":               {scheme: bare, header: sig(bodyHex), body: "{}", step: "signature match", want: signature.ErrMismatch},
		"tampered signature":          {scheme: bare, header: sig("c" + bodyHex[1:]), step: "signature match", want: signature.ErrMismatch},
		"wrong secret":                {scheme: bare, header: sig(bodyHex), keys: []string{"another secret of the docs"}, step: "signature match", want: signature.ErrMismatch},
		"no keys":                     {scheme: bare, header: sig(bodyHex), keys: []string{}, step: "signature match", want: signature.ErrMismatch},
		"old and new key":             {scheme: bare, header: sig(bodyHex), keys: []string{"another secret of the docs", secret}},
		"new and old key":             {scheme: bare, header: sig(bodyHex), keys: []string{secret, "another secret of the docs"}},
		"absent":                      {scheme: bare, header: http.Header{}, step: "signature header", want: signature.ErrMissing},
		"no headers at all":           {scheme: bare, step: "signature header", want: signature.ErrMissing},
		"empty":                       {scheme: bare, header: sig(""), step: "signature header", want: signature.ErrMalformed},
		"blank":                       {scheme: bare, header: sig(" \t"), step: "signature header", want: signature.ErrMalformed},
		"repeated, both good":         {scheme: bare, header: sig(bodyHex, bodyHex), step: "signature header", want: signature.ErrRepeated},
		"repeated, good first":        {scheme: bare, header: sig(bodyHex, ""), step: "signature header", want: signature.ErrRepeated},
		"repeated, joined by a proxy": {scheme: bare, header: sig(bodyHex + ", " + bodyHex), step: "signature format", want: signature.ErrMalformed},
		"truncated":                   {scheme: bare, header: sig(bodyHex[:62]), step: "signature format", want: signature.ErrMalformed},
		"one digit more":              {scheme: bare, header: sig(bodyHex + "0"), step: "signature format", want: signature.ErrMalformed},
		"not hex":                     {scheme: bare, header: sig("g" + bodyHex[1:]), step: "signature format", want: signature.ErrMalformed},
		"4 KiB":                       {scheme: bare, header: sig(bodyHex + strings.Repeat(" ", 4<<10-64))},
		"5 KiB":                       {scheme: bare, header: sig(bodyHex + strings.Repeat(" ", 5<<10-64)), step: "signature header", want: signature.ErrMalformed},
		"no prefix":                   {scheme: github, header: hub(bodyHex), step: "signature format", want: signature.ErrMalformed},
		"prefix in upper case":        {scheme: github, header: hub("SHA256=" + bodyHex), step: "signature format", want: signature.ErrMalformed},
		"prefix only":                 {scheme: github, header: hub("sha256="), step: "signature format", want: signature.ErrMalformed},
		"prefix of a weaker hash":     {scheme: github, header: hub("sha1=" + bodySHA1), step: "signature format", want: signature.ErrMalformed},
		"weaker hash in its header":   {scheme: github, header: headers("X-Hub-Signature", "sha1="+bodySHA1), step: "signature header", want: signature.ErrMissing},
		"weaker hash under prefix":    {scheme: github, header: hub("sha256=" + bodySHA1), step: "signature format", want: signature.ErrMalformed},
		"base64":                      {scheme: base64, header: sig(bodyBase64)},
		"base64 unpadded":             {scheme: base64, header: sig(strings.TrimRight(bodyBase64, "=")), step: "signature format", want: signature.ErrMalformed},
		"base64 url alphabet":         {scheme: base64, header: sig(strings.ReplaceAll(bodyBase64, "+", "-")), step: "signature format", want: signature.ErrMalformed},
		"base64 with trailing bits":   {scheme: base64, header: sig(strings.Replace(bodyBase64, "M=", "N=", 1)), step: "signature format", want: signature.ErrMalformed},
		"base64 and one character":    {scheme: base64, header: sig(bodyBase64 + "A"), step: "signature format", want: signature.ErrMalformed},
		"base64 with a line end":      {scheme: base64, header: sig(bodyBase64[:40] + "\n" + bodyBase64[40:]), step: "signature format", want: signature.ErrMalformed},
		"base64 with line end inside": {scheme: base64, header: sig(bodyBase64[:39] + "\n" + bodyBase64[40:]), step: "signature format", want: signature.ErrMalformed},
		"hex where base64 is wanted":  {scheme: base64, header: sig(bodyHex), step: "signature format", want: signature.ErrMalformed},
		"body is bytes, not text": { // printf '\xff\xfe\x00\xef\xbb\xbf\xc3\xa9\n' | openssl …
			scheme: bare, body: "\xff\xfe\x00\ufeff\u00e9\n",
			header: sig("f2467d7a3a744111cd5f9a864f0dbe34f6ab012e253aa4f78e089c2e7d7d1ad1"),
		},
		"composed and decomposed differ": {
			scheme: bare, body: "\xff\xfe\x00\ufeffe\u0301\n", step: "signature match", want: signature.ErrMismatch,
			header: sig("f2467d7a3a744111cd5f9a864f0dbe34f6ab012e253aa4f78e089c2e7d7d1ad1"),
		},
	})
}

func TestVerifyList(t *testing.T) {
	t.Parallel()
	const good = "t=1760000000,v1=" + timeDotBody
	list := func(values ...string) http.Header { return http.Header{"Stripe-Signature": values} }
	const anyKey = `{scheme: hmac-sha256, header: Stripe-Signature, format: pairs, signature_key: "*", timestamp_key: t, signed: "{timestamp}.{body}"}`
	runVerify(t, map[string]verifyTest{
		"good":                          {scheme: stripe, header: list(good)},
		"signature first":               {scheme: stripe, header: list("v1=" + timeDotBody + ",t=1760000000")},
		"whitespace around items":       {scheme: stripe, header: list(" t=1760000000 ,\tv1=" + timeDotBody)},
		"whitespace inside an item":     {scheme: stripe, header: list("t=1760000000,v1 =" + timeDotBody), step: "signature format", want: signature.ErrMissing},
		"whitespace before a value":     {scheme: stripe, header: list("t= 1760000000,v1=" + timeDotBody), step: "timestamp format", want: signature.ErrMalformed},
		"unknown keys":                  {scheme: stripe, header: list("a=b," + good + ",v0=" + wrong + ",=x")},
		"unknown key repeated":          {scheme: stripe, header: list("a=b,a=c," + good)},
		"several, first good":           {scheme: stripe, header: list(good + ",v1=" + wrong)},
		"several, last good":            {scheme: stripe, header: list("t=1760000000,v1=" + wrong + ",v1=" + timeDotBody)},
		"several, one not hex":          {scheme: stripe, header: list("t=1760000000,v1=zz,v1=" + timeDotBody)},
		"rotated, both sides":           {scheme: stripe, header: list("t=1760000000,v1=" + otherTimeDotBody + ",v1=" + wrong), keys: []string{secret, "another secret of the docs"}},
		"several, none good":            {scheme: stripe, header: list("t=1760000000,v1=" + wrong + ",v1=" + otherTimeDotBody), step: "signature match", want: signature.ErrMismatch},
		"under any key":                 {scheme: anyKey, header: list("k1=" + wrong + ",t=1760000000,k2=" + timeDotBody)},
		"under any key, without a time": {scheme: anyKey, header: list("k1=" + timeDotBody), step: "signature format", want: signature.ErrMissing},
		"under any key, two times":      {scheme: anyKey, header: list(good + ",t=1760000000"), step: "signature format", want: signature.ErrRepeated},
		"16 signatures":                 {scheme: stripe, header: list(good + strings.Repeat(",v1="+wrong, 15))},
		"17 signatures":                 {scheme: stripe, header: list(good + strings.Repeat(",v1="+wrong, 16)), step: "signature format", want: signature.ErrMalformed},
		"17 signatures, 16 empty":       {scheme: stripe, header: list(strings.Repeat("v1=,", 16) + good), step: "signature format", want: signature.ErrMalformed},
		"signature under another key":   {scheme: stripe, header: list("t=1760000000,v0=" + timeDotBody), step: "signature format", want: signature.ErrMissing},
		"key in another case":           {scheme: stripe, header: list("t=1760000000,V1=" + timeDotBody), step: "signature format", want: signature.ErrMissing},
		"empty signature":               {scheme: stripe, header: list("t=1760000000,v1="), step: "signature format", want: signature.ErrMalformed},
		"no signature":                  {scheme: stripe, header: list("t=1760000000"), step: "signature format", want: signature.ErrMissing},
		"no time":                       {scheme: stripe, header: list("v1=" + timeDotBody), step: "signature format", want: signature.ErrMissing},
		"two times":                     {scheme: stripe, header: list(good + ",t=1760000000"), step: "signature format", want: signature.ErrRepeated},
		"two times, one empty":          {scheme: stripe, header: list("t=," + good), step: "signature format", want: signature.ErrRepeated},
		"item without a separator":      {scheme: stripe, header: list(good + ",v1"), step: "signature format", want: signature.ErrMalformed},
		"empty item":                    {scheme: stripe, header: list(good + ","), step: "signature format", want: signature.ErrMalformed},
		"repeated header":               {scheme: stripe, header: list(good, good), step: "signature header", want: signature.ErrRepeated},
		"5 KiB":                         {scheme: stripe, header: list(good + ",a=" + strings.Repeat("x", 5<<10)), step: "signature header", want: signature.ErrMalformed},
		"4 KiB of separators":           {scheme: stripe, header: list(strings.Repeat(",", 4<<10)), step: "signature format", want: signature.ErrMalformed},
		"body of another header's time": {scheme: stripe, header: list("t=1760000001,v1=" + timeDotBody), step: "signature match", want: signature.ErrMismatch},
	})
}

func TestVerifyTime(t *testing.T) {
	t.Parallel()
	timed := func(ts ...string) http.Header {
		return http.Header{"X-Signature": {timeDotBody}, "X-Timestamp": ts}
	}
	// A validly signed nonsense time needs the secret; it is refused all the same.
	const millis = `{scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp, timestamp_unit: ms}`
	const minute = `{scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp, tolerance: 1m}`
	malformed := func(ts string) verifyTest {
		return verifyTest{scheme: simple, header: timed(ts), step: "timestamp format", want: signature.ErrMalformed}
	}
	runVerify(t, map[string]verifyTest{
		"old, at the edge":              {scheme: simple, header: timed("1760000000"), after: 5 * time.Minute},
		"old, over the edge":            {scheme: simple, header: timed("1760000000"), after: 5*time.Minute + 1, step: "timestamp window", want: signature.ErrStale},
		"old, a second over the edge":   {scheme: simple, header: timed("1760000000"), after: 301 * time.Second, step: "timestamp window", want: signature.ErrStale},
		"early, a second to the edge":   {scheme: simple, header: timed("1760000000"), after: -299 * time.Second},
		"early, at the edge":            {scheme: simple, header: timed("1760000000"), after: -5 * time.Minute},
		"early, over the edge":          {scheme: simple, header: timed("1760000000"), after: -5*time.Minute - 1, step: "timestamp window", want: signature.ErrFuture},
		"early, a second over the edge": {scheme: simple, header: timed("1760000000"), after: -301 * time.Second, step: "timestamp window", want: signature.ErrFuture},
		"tolerance of the scheme":       {scheme: minute, header: timed("1760000000"), after: 61 * time.Second, step: "timestamp window", want: signature.ErrStale},
		"forged and stale":              {scheme: simple, header: timed("1760000000"), body: "{}", after: time.Hour, step: "signature match", want: signature.ErrMismatch},
		"forged and early":              {scheme: simple, header: timed("9999999999999"), step: "signature match", want: signature.ErrMismatch},
		"seconds read as milliseconds":  {scheme: millis, header: timed("1760000000"), step: "timestamp window", want: signature.ErrStale},
		"milliseconds read as seconds": { // printf '1760000000123.{"type":"order.paid"}' | openssl …
			scheme: simple, step: "timestamp window", want: signature.ErrFuture,
			header: headers("X-Timestamp", "1760000000123", "X-Signature", "fe1939be0ef91d0a59d02a565979d1bb40eae93bb4a0c4c2434e1d740b6997cc"),
		},
		"whitespace around":      {scheme: simple, header: timed(" 1760000000\t")},
		"absent":                 {scheme: simple, header: headers("X-Signature", timeDotBody), step: "timestamp header", want: signature.ErrMissing},
		"repeated":               {scheme: simple, header: timed("1760000000", "1760000000"), step: "timestamp header", want: signature.ErrRepeated},
		"empty":                  {scheme: simple, header: timed(""), step: "timestamp header", want: signature.ErrMalformed},
		"leading zero":           malformed("01760000000"),
		"zero":                   malformed("0"),
		"plus":                   malformed("+1760000000"),
		"minus":                  malformed("-1760000000"),
		"fraction":               malformed("1760000000.9"),
		"exponent":               malformed("176e7"),
		"words":                  malformed("NaN"),
		"infinity":               malformed("Infinity"),
		"trailing letters":       malformed("1760000000abc"),
		"hex number":             malformed("0x68e77800"),
		"digits of another kind": malformed("١٧٦٠٠٠٠٠٠٠"),
		"14 digits":              malformed("17600000000000"),
		"a date":                 malformed("2025-10-09T08:53:20Z"),
	})
}

func TestVerifySignedHeaders(t *testing.T) {
	t.Parallel()
	const named = `{scheme: hmac-sha256, header: S, signed: "{header:X-Call}:{body}"}`
	with := func(name string, values ...string) http.Header {
		h := headers("webhook-id", "msg_1", "webhook-timestamp", "1760000000",
			"webhook-signature", "v1,fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY=", "S", methodHeaderBody, "X-Call", "POST-7")
		h[name] = values
		return h
	}
	keys := []string{standardSecret}
	runVerify(t, map[string]verifyTest{
		"id":                   {scheme: standard, keys: keys, header: with("Webhook-Id", "msg_1")},
		"another id":           {scheme: standard, keys: keys, header: with("Webhook-Id", "msg_2"), step: "signature match", want: signature.ErrMismatch},
		"no id":                {scheme: standard, keys: keys, header: with("Webhook-Id"), step: "signed headers", want: signature.ErrMissing},
		"empty id":             {scheme: standard, keys: keys, header: with("Webhook-Id", ""), step: "signed headers", want: signature.ErrMalformed},
		"repeated id":          {scheme: standard, keys: keys, header: with("Webhook-Id", "msg_1", "msg_1"), step: "signed headers", want: signature.ErrRepeated},
		"id of 5 KiB":          {scheme: standard, keys: keys, header: with("Webhook-Id", strings.Repeat("x", 5<<10)), step: "signed headers", want: signature.ErrMalformed},
		"other versions":       {scheme: standard, keys: keys, header: with("Webhook-Signature", "v1a,xx v2,yy  v1,fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY=")},
		"other versions only":  {scheme: standard, keys: keys, header: with("Webhook-Signature", "v1a,fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY="), step: "signature format", want: signature.ErrMissing},
		"bare signature":       {scheme: standard, keys: keys, header: with("Webhook-Signature", "fVNz/BsGrl10KtXJJd81XEgESziy95TuaizbyQ+qoFY="), step: "signature format", want: signature.ErrMalformed},
		"named header":         {scheme: named, header: with("X-Call", "POST-7")},
		"named header altered": {scheme: named, header: with("X-Call", "POST-8"), step: "signature match", want: signature.ErrMismatch},
		"named header absent":  {scheme: named, header: with("X-Call"), step: "signed headers", want: signature.ErrMissing},
		"named header twice":   {scheme: named, header: with("X-Call", "POST-7", "POST-8"), step: "signed headers", want: signature.ErrRepeated},
	})
}

// A key is bound to its algorithm, and a Key that nobody parsed isn't the key
// of no bytes.
func TestVerifyUnfitKeys(t *testing.T) {
	t.Parallel()
	v := compile(t, `{scheme: hmac-sha256, header: S}`)
	keys := map[string][]signature.Key{
		"none":              nil,
		"zero":              {{}},
		"another algorithm": {key(t, `{scheme: hmac-sha512}`, secret)},
	}
	// The key of no bytes over no bytes: Python's hmac.new(b"", b"", "sha256")
	const ofNothing = "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
	for name, ks := range keys {
		for _, r := range []signature.Request{
			{Header: headers("S", bodyHex), Body: []byte(payload)},
			{Header: headers("S", ofNothing)},
		} {
			err := v.Verify(r, ks, at)
			if !errors.Is(err, signature.ErrMismatch) {
				t.Errorf("%s: Verify() = %v, want %v", name, err, signature.ErrMismatch)
			}
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		github: {"signature header", "signature format", "signature match"},
		stripe: {"signature header", "signature format", "timestamp format", "signature match", "timestamp window"},
		slack:  {"signature header", "signature format", "timestamp header", "timestamp format", "signature match", "timestamp window"},
		standard: {
			"signature header", "signature format", "timestamp header", "timestamp format", "signed headers", "signature match", "timestamp window",
		},
	}
	for scheme, want := range tests {
		v := compile(t, scheme)
		got := v.Steps()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Steps() = %q, want %q", got, want)
		}
		got[0] = "altered"
		if again := v.Steps(); !reflect.DeepEqual(again, want) {
			t.Errorf("Steps() = %q after a caller altered its copy, want %q", again, want)
		}
	}
}

// Match says which key it was, and when the sender signed.
func TestMatchNamesTheKey(t *testing.T) {
	t.Parallel()
	const named = `{scheme: hmac-sha256, header: X-Signature, signed: "{signed_headers:X-Signed-Headers}.{body}", timestamp: X-Timestamp}`
	tests := map[string]struct {
		scheme  string
		secrets []string
		of      int // which of them signs
		timed   bool
	}{
		"the only one":       {simple, []string{secret}, 0, true},
		"the second one":     {simple, []string{"another secret of the docs", secret, "a third one of enough length"}, 1, true},
		"without a time":     {github, []string{"another secret of the docs", secret}, 1, false},
		"a token":            {`{scheme: token, header: X-Token}`, []string{"another secret of the docs", secret}, 1, false},
		"a key that is old":  {stripe, []string{secret, secret}, 0, true},
		"the last of a list": {stripe, []string{"another secret of the docs", secret}, 1, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := compile(t, tt.scheme)
			keys := make([]signature.Key, len(tt.secrets))
			for i, s := range tt.secrets {
				keys[i] = key(t, tt.scheme, s)
			}
			body := []byte(payload)
			got, err := v.Match(signature.Request{Header: v.Sign(keys[tt.of], body, "", at), Body: body}, keys, at)
			if err != nil || got.Key != tt.of || got.SignedAt.IsZero() == tt.timed || tt.timed && !got.SignedAt.Equal(at) {
				t.Errorf("Match() = %+v, %v; want key %d, timed %t", got, err, tt.of, tt.timed)
			}
		})
	}
	none := compile(t, `{scheme: none, insecure: true}`)
	if got, err := none.Match(signature.Request{}, nil, at); err != nil || got.Key != -1 {
		t.Errorf("without a signature Match() = %+v, %v; want key -1", got, err)
	}
	v := compile(t, named)
	if !v.NamesHeaders() || compile(t, simple).NamesHeaders() {
		t.Error("it isn't told which scheme's requests name their headers")
	}
	h := http.Header{"X-Signed-Headers": {"x-signed-headers, X-Timestamp,x-odd name,X-Other"}}
	if got := v.ReadsMore(h); !slices.Equal(got, []string{"X-Signed-Headers", "X-Timestamp", "X-Other"}) {
		t.Errorf("ReadsMore() = %q", got)
	}
	if got := v.ReadsMore(http.Header{"X-Signed-Headers": {strings.Repeat("a,", 100)}}); len(got) != 32 {
		t.Errorf("ReadsMore() = %d names, want at most 32", len(got))
	}
}
