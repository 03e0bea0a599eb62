package signature_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

// lines is a scheme for a sender that signs members of a JSON body, for everyone.
const lines = `{scheme: rsa-sha256-or-sha1, signature: body.Signature, encoding: base64, partial_body: true,
  signed: "{json_lines:Message Subject Timestamp Topic Type}", timestamp: body.Timestamp, timestamp_unit: rfc3339,
  sender_key: body.CertURL, recipient: body.Topic}`

// byName is a scheme for a sender that signs the receiver's name.
const byName = `{scheme: rsa-sha256, header: X-Sig, encoding: base64, signed: "{header:X-Id}|{timestamp}|{secret}|{body_crc32}",
  timestamp: X-Time, timestamp_unit: rfc3339, sender_key: X-Cert}`

const tokenScheme = `{scheme: jwt-es256, header: X-Token, body_hash_claim: hash, sender_key: kid}`

const (
	topic   = "arn:of:the:topic"
	certURL = "https://keys.example.com/one.pem"
)

var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

func senderKey(t testing.TB, a signature.Algorithm, public crypto.PublicKey) signature.SenderKey {
	t.Helper()
	k, err := signature.NewSenderKey(a, public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signedRSA is the signature of text under the first key, in base64.
func signedRSA(t testing.TB, hash crypto.Hash, text string) string {
	t.Helper()
	var digest []byte
	if hash == crypto.SHA1 {
		sum := sha1.Sum([]byte(text))
		digest = sum[:]
	} else {
		sum := sha256.Sum256([]byte(text))
		digest = sum[:]
	}
	sum, err := rsa.SignPKCS1v15(nil, rsaKeys()[0], hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// linesBody is a body with those members and the signature of text.
func linesBody(t testing.TB, hash crypto.Hash, text string, members map[string]any) []byte {
	t.Helper()
	all := map[string]any{
		"Message": "hello", "Timestamp": at.UTC().Format(time.RFC3339), "Topic": topic, "Type": "Notification", "CertURL": certURL,
		"Signature": signedRSA(t, hash, text),
	}
	maps.Copy(all, members)
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestRSAOverMembersOfTheBody(t *testing.T) {
	t.Parallel()
	stamp := at.UTC().Format(time.RFC3339)
	const head, tail = "Message\nhello\n", "\nTopic\n" + topic + "\nType\nNotification\n"
	text := head + "Timestamp\n" + stamp + tail
	subject := head + "Subject\n\nTimestamp\n" + stamp + tail
	// A publisher to another topic writes a message that contains the rest of one
	// to ours, and later takes the members apart at other places.
	spliced := "Message\nhello\nTimestamp\n" + stamp + "\nTopic\n" + topic + "\nType\nNotification\nTimestamp\n" + stamp + "\nTopic\nanother\nType\nNotification\n"
	good := rsaKeys()[0].Public()
	tests := map[string]struct {
		body    []byte
		sender  crypto.PublicKey
		secrets []string
		after   time.Duration
		step    string
		want    error
	}{
		"good":             {body: linesBody(t, crypto.SHA256, text, nil)},
		"good, SHA-1":      {body: linesBody(t, crypto.SHA1, text, nil)},
		"an empty subject": {body: linesBody(t, crypto.SHA256, subject, map[string]any{"Subject": ""})},
		"a null subject":   {body: linesBody(t, crypto.SHA256, text, map[string]any{"Subject": nil})},
		"the second of two topics": {
			body: linesBody(t, crypto.SHA256, text, nil), secrets: []string{"arn:of:another:topic", topic},
		},
		"an empty subject left out of the signature": {
			body: linesBody(t, crypto.SHA256, text, map[string]any{"Subject": ""}), step: signature.StepMatch, want: signature.ErrMismatch,
		},
		"tampered": {
			body: linesBody(t, crypto.SHA256, text, map[string]any{"Message": "hullo"}), step: signature.StepMatch, want: signature.ErrMismatch,
		},
		"a number for a text": {
			body: linesBody(t, crypto.SHA256, text, map[string]any{"Message": 1}), step: signature.StepSigned, want: signature.ErrMalformed,
		},
		"another sender's key": {
			body: linesBody(t, crypto.SHA256, text, nil), sender: rsaKeys()[1].Public(), step: signature.StepMatch, want: signature.ErrMismatch,
		},
		"another topic, rightly signed": {
			body: linesBody(t, crypto.SHA256, strings.Replace(text, topic, "another", 1), map[string]any{"Topic": "another"}),
			step: signature.StepRecipient, want: signature.ErrMismatch,
		},
		"members that begin elsewhere": {
			body: linesBody(t, crypto.SHA256, spliced, map[string]any{"Type": "Notification\nTimestamp\n" + stamp + "\nTopic\nanother\nType\nNotification"}),
			step: signature.StepSigned, want: signature.ErrMalformed,
		},
		"no topic": {
			body: linesBody(t, crypto.SHA256, strings.Replace(text, "\nTopic\n"+topic, "", 1), map[string]any{"Topic": nil}),
			step: signature.StepRecipient, want: signature.ErrMissing,
		},
		"no certificate": {
			body: linesBody(t, crypto.SHA256, text, map[string]any{"CertURL": nil}), step: signature.StepKey, want: signature.ErrMissing,
		},
		"a URL without end": {
			body: linesBody(t, crypto.SHA256, text, map[string]any{"CertURL": strings.Repeat("a", 513)}), step: signature.StepKey, want: signature.ErrMalformed,
		},
		"no signature":     {body: linesBody(t, crypto.SHA256, text, map[string]any{"Signature": nil}), step: signature.StepHeader, want: signature.ErrMissing},
		"a long signature": {body: linesBody(t, crypto.SHA256, text, map[string]any{"Signature": strings.Repeat("AAAA", 1000)}), step: signature.StepFormat, want: signature.ErrMalformed},
		"stale":            {body: linesBody(t, crypto.SHA256, text, nil), after: 6 * time.Minute, step: signature.StepWindow, want: signature.ErrStale},
		"future":           {body: linesBody(t, crypto.SHA256, text, nil), after: -6 * time.Minute, step: signature.StepWindow, want: signature.ErrFuture},
	}
	v := compile(t, lines)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.sender == nil {
				tt.sender = good
			}
			if tt.secrets == nil {
				tt.secrets = []string{topic}
			}
			var keys []signature.Key
			for _, s := range tt.secrets {
				keys = append(keys, key(t, lines, s))
			}
			r := signature.Request{Body: tt.body, Sender: senderKey(t, signature.RSAEither, tt.sender)}
			checkError(t, v, v.Verify(r, keys, at.Add(tt.after)), tt.step, tt.want)
			// What fails without the key is known before it is fetched.
			name, err := v.KeyName(r, keys)
			early := tt.want != nil && tt.step != signature.StepMatch && tt.step != signature.StepWindow
			if early != errors.Is(err, tt.want) && tt.want != nil || !early && (err != nil || name != certURL) {
				t.Errorf("KeyName() = %q, %v, want %v", name, err, tt.want)
			}
		})
	}
}

func TestRSAOverTheReceiversName(t *testing.T) {
	t.Parallel()
	const name = "9XL90610J3647323C"
	stamp := at.UTC().Format(time.RFC3339)
	header := func(sig string) http.Header {
		return http.Header{"X-Id": {"d938e770"}, "X-Time": {stamp}, "X-Cert": {certURL}, "X-Sig": {sig}}
	}
	// The sum of {"n":42} is from zlib's crc32.
	const sum = "989160493"
	body := []byte(`{"n":42}`)
	good := header(signedRSA(t, crypto.SHA256, "d938e770|"+stamp+"|"+name+"|"+sum))
	weak := header(signedRSA(t, crypto.SHA1, "d938e770|"+stamp+"|"+name+"|"+sum))
	other := header(signedRSA(t, crypto.SHA256, "d938e770|"+stamp+"|0000000000000000X|"+sum))
	v := compile(t, byName)
	sender := senderKey(t, signature.RSASHA256, rsaKeys()[0].Public())
	for name, tt := range map[string]struct {
		request signature.Request
		step    string
		want    error
	}{
		"good":                {signature.Request{Header: good, Body: body, Sender: sender}, "", nil},
		"for another":         {signature.Request{Header: other, Body: body, Sender: sender}, signature.StepMatch, signature.ErrMismatch},
		"with SHA-1":          {signature.Request{Header: weak, Body: body, Sender: sender}, signature.StepMatch, signature.ErrMismatch},
		"another body":        {signature.Request{Header: good, Body: []byte("{}"), Sender: sender}, signature.StepMatch, signature.ErrMismatch},
		"no key at hand":      {signature.Request{Header: good, Body: body}, signature.StepMatch, signature.ErrMismatch},
		"no name of the key":  {signature.Request{Header: without(good, "X-Cert"), Body: body, Sender: sender}, signature.StepKey, signature.ErrMissing},
		"two names of a key":  {signature.Request{Header: with(good, "X-Cert", certURL, certURL), Body: body, Sender: sender}, signature.StepKey, signature.ErrRepeated},
		"no id":               {signature.Request{Header: without(good, "X-Id"), Body: body, Sender: sender}, signature.StepSigned, signature.ErrMissing},
		"an empty signature":  {signature.Request{Header: with(good, "X-Sig", ""), Body: body, Sender: sender}, signature.StepHeader, signature.ErrMalformed},
		"a signature of none": {signature.Request{Header: with(good, "X-Sig", "===="), Body: body, Sender: sender}, signature.StepFormat, signature.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkError(t, v, v.Verify(tt.request, []signature.Key{key(t, byName, "9XL90610J3647323C")}, at), tt.step, tt.want)
		})
	}
	if v.Covers() || v.CoversJSON("n") {
		t.Error("a CRC-32 is taken for a hash")
	}
	if err := v.Verify(signature.Request{Header: good, Body: body, Sender: sender}, nil, at); !errors.Is(err, signature.ErrMismatch) {
		t.Errorf("Verify() without secrets = %v", err)
	}
}

// The secret in the signed string is that of the recipient, not any of them.
func TestTheSecretIsTheRecipients(t *testing.T) {
	t.Parallel()
	const both = `{scheme: rsa-sha256, header: X-Sig, encoding: base64, partial_body: true, signed: "{json_lines:To}{secret}",
  sender_key: X-Cert, recipient: body.To}`
	const one, two = "receiver number one", "receiver number two"
	v, keys := compile(t, both), []signature.Key{key(t, both, one), key(t, both, two)}
	for secret, want := range map[string]error{one: nil, two: signature.ErrMismatch} {
		r := signature.Request{
			Header: http.Header{"X-Sig": {signedRSA(t, crypto.SHA256, "To\n"+one+"\n"+secret)}, "X-Cert": {certURL}},
			Body:   []byte(`{"To":"` + one + `"}`), Sender: senderKey(t, signature.RSASHA256, rsaKeys()[0].Public()),
		}
		if err := v.Verify(r, keys, at); !errors.Is(err, want) {
			t.Errorf("signed with %s: %v, want %v", secret, err, want)
		}
	}
}

func without(h http.Header, name string) http.Header {
	h = h.Clone()
	delete(h, name)
	return h
}

func with(h http.Header, name string, values ...string) http.Header {
	h = h.Clone()
	h[name] = values
	return h
}

// es256 is a token over payload that names kid.
func es256(t testing.TB, private *ecdsa.PrivateKey, head string) http.Header {
	t.Helper()
	raw := base64.RawURLEncoding.EncodeToString
	text := raw([]byte(head)) + "." + raw([]byte(`{"iat":1760000000,"hash":"`+sumHex(payload)+`"}`))
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"X-Token": {text + "." + raw(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))}}
}

func TestTokensUnderAKeyThatIsFetched(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sender := senderKey(t, signature.JWTES256, private.Public())
	v := compile(t, tokenScheme)
	if v.NeedsKey() || !v.FetchesKey() {
		t.Error("the scheme needs no secret, and a key that is fetched")
	}
	for name, tt := range map[string]struct {
		head   string
		signer *ecdsa.PrivateKey
		sender signature.SenderKey
		step   string
		want   error
	}{
		"good":           {`{"alg":"ES256","kid":"k1"}`, private, sender, "", nil},
		"another key":    {`{"alg":"ES256","kid":"k1"}`, other, sender, signature.StepMatch, signature.ErrMismatch},
		"no key at hand": {`{"alg":"ES256","kid":"k1"}`, private, signature.SenderKey{}, signature.StepMatch, signature.ErrMismatch},
		"no kid":         {`{"alg":"ES256"}`, private, sender, signature.StepKey, signature.ErrMalformed},
		"a kid of 1 kB":  {`{"alg":"ES256","kid":"` + strings.Repeat("k", 1024) + `"}`, private, sender, signature.StepKey, signature.ErrMalformed},
		"none":           {`{"alg":"none","kid":"k1"}`, private, sender, signature.StepFormat, signature.ErrMalformed},
		"HS256":          {`{"alg":"HS256","kid":"k1"}`, private, sender, signature.StepFormat, signature.ErrMalformed},
		"an extension":   {`{"alg":"ES256","kid":"k1","crit":["exp"]}`, private, sender, signature.StepFormat, signature.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := signature.Request{Header: es256(t, tt.signer, tt.head), Body: []byte(payload), Sender: tt.sender}
			checkError(t, v, v.Verify(r, nil, at), tt.step, tt.want)
			if got, err := v.KeyName(r, nil); tt.want == nil && (got != "k1" || err != nil) {
				t.Errorf("KeyName() = %q, %v", got, err)
			}
		})
	}
}

// A key that anyone could break, or of another kind, is none.
func TestNewSenderKey(t *testing.T) {
	t.Parallel()
	n := rsaKeys()[0].N
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		algorithm signature.Algorithm
		public    crypto.PublicKey
		want      bool
	}{
		"RSA of 2048 bits":  {signature.RSASHA256, rsaKeys()[0].Public(), true},
		"RSA of 1024 bits":  {signature.RSASHA256, &rsa.PublicKey{N: new(big.Int).Rsh(n, 1024), E: 65537}, false},
		"RSA of 2047 bits":  {signature.RSASHA256, &rsa.PublicKey{N: new(big.Int).Rsh(n, 1), E: 65537}, false},
		"RSA of 8193 bits":  {signature.RSASHA256, &rsa.PublicKey{N: new(big.Int).Lsh(n, 6145), E: 65537}, false},
		"an exponent of 1":  {signature.RSASHA256, &rsa.PublicKey{N: n, E: 1}, false},
		"an even exponent":  {signature.RSASHA256, &rsa.PublicKey{N: n, E: 65536}, false},
		"RSA for a token":   {signature.JWTES256, rsaKeys()[0].Public(), false},
		"P-256 for a token": {signature.JWTES256, p256.Public(), true},
		"P-384 for a token": {signature.JWTES256, p384.Public(), false},
		"P-256 for RSA":     {signature.RSAEither, p256.Public(), false},
		"no key":            {signature.RSAEither, nil, false},
	} {
		if _, err := signature.NewSenderKey(tt.algorithm, tt.public); (err == nil) != tt.want {
			t.Errorf("%s: NewSenderKey() = %v", name, err)
		}
	}
}

func TestCompileOfSchemesWithFetchedKeys(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ scheme, key string }{
		"no name of the key":     {`{scheme: rsa-sha256, header: S, signed: "{secret}{body}"}`, "sender_key"},
		"anyone's request":       {`{scheme: rsa-sha256, header: S, sender_key: K}`, "recipient"},
		"a recipient not signed": {`{scheme: rsa-sha256, header: S, sender_key: K, partial_body: true, signed: "{json_lines:a}", recipient: body.b}`, "recipient"},
		"key in the signature":   {`{scheme: rsa-sha256, header: S, sender_key: S, signed: "{secret}{body}"}`, "sender_key"},
		"an encoded name":        {`{scheme: rsa-sha256, header: S, sender_key: K, signed: "{secret}{body}", key: {encoding: hex}}`, "key.encoding"},
		"secret under a MAC":     {`{scheme: hmac-sha256, header: S, signed: "{secret}{body}"}`, "signed"},
		"fetched MAC key":        {`{scheme: hmac-sha256, header: S, sender_key: K}`, "sender_key"},
		"recipient of a MAC":     {`{scheme: hmac-sha256, header: S, recipient: body.a}`, "recipient"},
		"token, key in a header": {`{scheme: jwt-es256, header: S, body_hash_claim: h, sender_key: K}`, "sender_key"},
		"shared key of a token":  {`{scheme: jwt-hs256, header: S, body_hash_claim: h, sender_key: kid}`, "sender_key"},
	} {
		_, err := signature.Compile(scheme(t, tt.scheme))
		var faults signature.Faults
		if !errors.As(err, &faults) || faults[0].Key != tt.key {
			t.Errorf("%s: Compile() = %v, want a fault of %s", name, err, tt.key)
		}
	}
}

// Nothing makes a panic of the parsers in front of a fetched key, and nothing is
// genuine that the sender didn't sign.
func FuzzVerifySender(f *testing.F) {
	stamp := at.UTC().Format(time.RFC3339)
	f.Add(linesBody(f, crypto.SHA256, "Message\nhello\nTimestamp\n"+stamp+"\nTopic\n"+topic+"\nType\nNotification\n", nil), certURL, "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.AA")
	f.Add([]byte(`{"Signature":"AA==","Subject":null}`), "\n", "..")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	senders := map[string]signature.SenderKey{
		lines: senderKey(f, signature.RSAEither, rsaKeys()[1].Public()), byName: senderKey(f, signature.RSASHA256, rsaKeys()[1].Public()),
		tokenScheme: senderKey(f, signature.JWTES256, private.Public()),
	}
	f.Fuzz(func(t *testing.T, body []byte, cert, token string) {
		for text, sender := range senders {
			v := compile(t, text)
			var keys []signature.Key
			if v.NeedsKey() {
				keys = []signature.Key{key(t, text, topic)}
			}
			r := signature.Request{Body: body, Sender: sender, Header: http.Header{
				"X-Cert": {cert}, "X-Token": {token}, "X-Sig": {token}, "X-Id": {cert}, "X-Time": {stamp},
			}}
			name, err := v.KeyName(r, keys)
			if (err == nil) != (name != "") || len(name) > 512 {
				t.Errorf("KeyName() = %q, %v", name, err)
			}
			if err != nil {
				checkFuzzed(t, v, err)
			}
			if err = v.Verify(r, keys, at); err == nil {
				t.Errorf("%s took %q, %q, %q", text, body, cert, token)
			}
			checkFuzzed(t, v, err)
		}
	})
}
