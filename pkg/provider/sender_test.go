package provider_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
)

// sourceOf decodes a source whose references all have the same value.
func sourceOf(t testing.TB, text string) (*provider.Source, error) {
	t.Helper()
	s := &provider.Source{}
	return s, config.Decode("source.yaml", []byte(text), s, config.WithLookupEnv(func(string) (string, bool) {
		return "a value of enough length", true
	}))
}

func presetKeys(t testing.TB, name string) provider.SenderKeys {
	t.Helper()
	p, ok := provider.LookupPreset(name)
	if !ok {
		t.Fatalf("no preset %s", name)
	}
	return p.SenderKeys
}

// A request chooses among the sender's own keys, and can't name anything else.
func TestNamesOfSenderKeys(t *testing.T) {
	t.Parallel()
	for preset, names := range map[string]map[string]bool{
		"aws-sns": {
			"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem": true,
			"https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0a.pem":                           true,
			"https://sns.us-gov-west-1.amazonaws.com/a_b-C.pem":                                                  true,
			"http://sns.us-east-1.amazonaws.com/a.pem":                                                           false,
			"https://sns.us-east-1.amazonaws.com.evil.com/a.pem":                                                 false,
			"https://sns.us-east-1.amazonaws.com.cn.evil.com/a.pem":                                              false,
			"https://sns.us-east-1.amazonaws.org/a.pem":                                                          false,
			"https://sns.us-east-1.evil.com#.amazonaws.com/a.pem":                                                false,
			"https://evil.com/sns.us-east-1.amazonaws.com/a.pem":                                                 false,
			"https://sns.us-east-1.s3.amazonaws.com/a.pem":                                                       false,
			"https://evil.s3.amazonaws.com/a.pem":                                                                false,
			"https://sns.amazonaws.com/a.pem":                                                                    false,
			"https://xsns.us-east-1.amazonaws.com/a.pem":                                                         false,
			"https://sns..amazonaws.com/a.pem":                                                                   false,
			"https://sns.-.amazonaws.com/a.pem":                                                                  false,
			"https://sns.us-east-1.amazonaws.com:443/a.pem":                                                      false,
			"https://sns.us-east-1.amazonaws.com:8443/a.pem":                                                     false,
			"https://user@sns.us-east-1.amazonaws.com/a.pem":                                                     false,
			"https://sns.us-east-1.amazonaws.com@evil.com/a.pem":                                                 false,
			"https://sns.us-east-1.amazonaws.com%2eevil.com/a.pem":                                               false,
			"https://sns.us-east-1.amazonaws.com/%2e%2e/a.pem":                                                   false,
			"https://sns.us-east-1.amazonaws.com/../a.pem":                                                       false,
			"https://sns.us-east-1.amazonaws.com/a/b.pem":                                                        false,
			"https://sns.us-east-1.amazonaws.com/a.pem?x=.pem":                                                   false,
			"https://sns.us-east-1.amazonaws.com/?x=a.pem":                                                       false,
			"https://sns.us-east-1.amazonaws.com/a.pem#b.pem":                                                    false,
			"https://sns.us-east-1.amazonaws.com/a.pem\n":                                                        false,
			"https://sns.us-east-1.amazonaws.com\\@evil.com/a.pem":                                               false,
			"https://sns.us-east-1.amazonaws。com/a.pem":                                                          false,
			"https://sns.us-еast-1.amazonaws.com/a.pem":                                                          false, // a Cyrillic е
			"https://SNS.us-east-1.amazonaws.com/a.pem":                                                          false,
			" https://sns.us-east-1.amazonaws.com/a.pem":                                                         false,
			"//sns.us-east-1.amazonaws.com/a.pem":                                                                false,
			"file:///etc/passwd.pem":                                                                             false,
			"https://169.254.169.254/a.pem":                                                                      false,
			"https://sns.us-east-1.amazonaws.com/" + strings.Repeat("a", 500) + ".pem":                           false,
			"": false,
		},
		"paypal": {
			"https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77":         true,
			"https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77": true,
			"https://api.paypal.com/v1/notifications/certs/../../oauth2":                            false,
			"https://api.paypal.com/v1/notifications/certs/":                                        false,
			"https://www.paypal.com/v1/notifications/certs/CERT-1":                                  false,
			"https://api.paypal.com.evil.com/v1/notifications/certs/CERT-1":                         false,
		},
		"plaid": {
			"bfbd5111-8e33-4643-8ced-b2e642a72f3c": true,
			"../keys":                              false,
			`k","client_id":"x`:                    false,
			"":                                     false,
			strings.Repeat("k", 129):               false,
		},
		"github": {"https://sns.us-east-1.amazonaws.com/a.pem": false, "k1": false},
	} {
		keys := presetKeys(t, preset)
		for name, want := range names {
			if got := keys.Names(name); got != want {
				t.Errorf("%s: Names(%q) = %t, want %t", preset, name, got, want)
			}
		}
	}
}

// Whatever matches leads where the pattern says, also for a reader of URLs.
func FuzzNames(f *testing.F) {
	f.Add("https://sns.us-east-1.amazonaws.com/a.pem")
	f.Add("https://sns.us-east-1.amazonaws.com.cn/a.pem")
	f.Add("https://api.paypal.com/v1/notifications/certs/CERT-1")
	f.Add("https://sns.us-east-1.amazonaws.com@evil.com/a.pem")
	sns, paypal := presetKeys(f, "aws-sns"), presetKeys(f, "paypal")
	f.Fuzz(func(t *testing.T, name string) {
		if !sns.Names(name) && !paypal.Names(name) {
			return
		}
		u, err := url.Parse(name)
		if err != nil {
			t.Fatalf("%q matches and is no URL", name)
		}
		host := u.Hostname()
		ours := strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn") || strings.HasSuffix(host, ".paypal.com")
		if !ours || u.Scheme != "https" || u.User != nil || u.Port() != "" || u.RawQuery != "" || u.Fragment != "" || u.String() != name {
			t.Errorf("%q leads to %#v", name, u)
		}
	})
}

func TestHostsOfCertificates(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"sns.amazonaws.com": true, "sns-us-gov-west-1.amazonaws.com": true, "sns-signing.eu-south-1.amazonaws.com": true,
		"sns-cn-north-1.amazonaws.com.cn": true, "s3.amazonaws.com": false, "*.amazonaws.com": false, "sns-.amazonaws.com": false,
		"sns.amazonaws.com.evil.com": false, "evil.sns-signing.eu.amazonaws.com": false, "SNS.amazonaws.com": false, "": false,
	} {
		got := false
		for _, h := range presetKeys(t, "aws-sns").Certificates.Hosts {
			got = got || h.Matches(name)
		}
		if got != want {
			t.Errorf("%q matches: %t, want %t", name, got, want)
		}
	}
}

func TestFaultsOfSenderKeys(t *testing.T) {
	t.Parallel()
	const rsa = "verify: {scheme: rsa-sha256, header: S, sender_key: K, signed: \"{secret}{body}\"}\nsecrets: [env:A]\nevent: {type: \"=x\"}\n"
	const token = "verify: {scheme: jwt-es256, header: S, sender_key: kid, body_hash_claim: h}\nevent: {type: \"=x\"}\n"
	const endpoint = "sender_keys: {endpoint: {path: /k, id: i, credentials: [A], key: k, unknown: e, unknown_code: X}}\n"
	for name, tt := range map[string]struct{ text, want string }{
		"good":                         {rsa + `sender_keys: {certificates: {urls: ["https://k.*.example.com/*.pem"], hosts: [k.example.com]}}`, ""},
		"good endpoint":                {token + endpoint + "api: {base: \"https://api.example.com\", headers: {A: env:A}}", ""},
		"nowhere":                      {rsa, "sender_keys"},
		"both":                         {rsa + "sender_keys: {certificates: {urls: [\"https://k.example.com/*\"], hosts: [k.example.com]}, endpoint: {path: /k, id: i, credentials: [A], key: k, unknown: e, unknown_code: X}}", "one of certificates and endpoint"},
		"without need":                 {"verify: {scheme: hmac-sha256, header: S}\nsecrets: [env:A]\nevent: {type: \"=x\"}\n" + endpoint, "sender_keys"},
		"plain http":                   {rsa + `sender_keys: {certificates: {urls: ["http://k.example.com/*"], hosts: [k.example.com]}}`, "urls[0]"},
		"anybody's domain":             {rsa + `sender_keys: {certificates: {urls: ["https://k.*.com/*"], hosts: [k.example.com]}}`, "urls[0]"},
		"anybody's host":               {rsa + `sender_keys: {certificates: {urls: ["https://k.example.com/*"], hosts: ["*.com"]}}`, "hosts[0]"},
		"a port":                       {rsa + `sender_keys: {certificates: {urls: ["https://k.example.com:1/*"], hosts: [k.example.com]}}`, "urls[0]"},
		"a query":                      {rsa + `sender_keys: {certificates: {urls: ["https://k.example.com/?*"], hosts: [k.example.com]}}`, "urls[0]"},
		"no path":                      {rsa + `sender_keys: {certificates: {urls: ["https://k.example.com"], hosts: [k.example.com]}}`, "urls[0]"},
		"no hosts":                     {rsa + `sender_keys: {certificates: {urls: ["https://k.example.com/*"]}}`, "hosts"},
		"no urls":                      {rsa + `sender_keys: {certificates: {hosts: [k.example.com]}}`, "urls"},
		"an endpoint without API":      {token + endpoint, "api.base"},
		"without credentials":          {token + endpoint + "api: {base: \"https://api.example.com\"}", "api.headers"},
		"without names of credentials": {token + "sender_keys: {endpoint: {path: /k, id: i, key: k, unknown: e, unknown_code: X}}\napi: {base: \"https://api.example.com\", headers: {A: env:A}}", "credentials"},
		"an endpoint without a path":   {token + "sender_keys: {endpoint: {id: i, credentials: [A], key: k, unknown: e, unknown_code: X}}\napi: {base: \"https://api.example.com\", headers: {A: env:A}}", "path"},
		"without a code":               {token + "sender_keys: {endpoint: {path: /k, id: i, credentials: [A], key: k, unknown: e}}\napi: {base: \"https://api.example.com\", headers: {A: env:A}}", "unknown_code"},
		"many keys":                    {token + "sender_keys: {endpoint: {path: /k, id: i, credentials: [A], key: \"k[]\", unknown: e, unknown_code: X}}\napi: {base: \"https://api.example.com\", headers: {A: env:A}}", "key"},
		"secrets that aren't used":     {token + endpoint + "secrets: [env:A]\napi: {base: \"https://api.example.com\", headers: {A: env:A}}", "secrets"},
	} {
		_, err := sourceOf(t, tt.text)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: Decode() = %v, want a fault of %q", name, err, tt.want)
		}
	}
}

// What a source says of its own keys stays with it.
func TestSourcesDontChangePresets(t *testing.T) {
	t.Parallel()
	s, err := sourceOf(t, `{preset: aws-sns, secrets: [env:A], sender_keys: {certificates: {urls: ["https://k.example.com/*"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if !s.SenderKeys.Names("https://k.example.com/x") || presetKeys(t, "aws-sns").Names("https://k.example.com/x") {
		t.Error("the preset has the source's URLs, or the source hasn't")
	}
	// The id that PayPal signs by a CRC-32 alone isn't signed.
	p, err := sourceOf(t, `{preset: paypal, secrets: [env:A]}`)
	if err != nil || p.IDSigned() || !p.SameBodySameEvent() {
		t.Errorf("paypal: %v, an id that is taken for signed", err)
	}
	if !s.IDSigned() {
		t.Error("aws-sns: MessageId is signed")
	}
}

// An address is visited only for who has signed that it should be, and only at
// hosts that are known.
func TestFaultsOfVisits(t *testing.T) {
	t.Parallel()
	const source = "preset: hmac\nsecrets: [env:A]\nhandshakes: {hello: {when: {body.type: hello}, "
	for name, tt := range map[string]struct {
		text string
		good bool
	}{
		"good":         {`visit: {url: body.url, hosts: [api.example.com]}}}`, true},
		"unsigned":     {`unsigned: true, visit: {url: body.url, hosts: [api.example.com]}}}`, false},
		"to any host":  {`visit: {url: body.url}}}`, false},
		"to a domain":  {`visit: {url: body.url, hosts: ["*.com"]}}}`, false},
		"of no URL":    {`visit: {hosts: [api.example.com]}}}`, false},
		"no such part": {`visit: {url: url, hosts: [api.example.com]}}}`, false},
	} {
		if _, err := sourceOf(t, source+tt.text); (err == nil) != tt.good || err != nil && !strings.Contains(err.Error(), "visit") {
			t.Errorf("%s: Decode() = %v", name, err)
		}
	}
}
