package pipeline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	const source = `
sources:
  s:
    verify: {scheme: token, header: X-Token}
    secrets: [env:SECRET]
    event: {id: header.X-Id, type: body.type}
`
	const one = `tokens: {alice: {role: operator, token: "env:SECRET"}}`
	for name, tt := range map[string]struct{ section, want string }{
		"nothing":                    {"{}", ""},
		"a token":                    {"{" + one + "}", ""},
		"a token, from outside":      {`{listen: ":8089", ` + one + "}", ""},
		"a day":                      {`{tokens: {alice: {role: viewer, token: "env:SECRET", expires: "2027-03-01"}}}`, ""},
		"none, on another loopback":  {`{listen: "127.0.0.2:8089"}`, ""},
		"none, on IPv6's loopback":   {`{listen: "[::1]:8089"}`, ""},
		"none, from outside":         {`{listen: ":8089"}`, "tokens"},
		"none, under a name":         {`{listen: "console.example.com:8089"}`, "tokens"},
		"no address":                 {`{listen: "8089"}`, "HOST:PORT"},
		"no role":                    {`{tokens: {alice: {token: "env:SECRET"}}}`, "role"},
		"another role":               {`{tokens: {alice: {role: admin, token: "env:SECRET"}}}`, "operator"},
		"no token":                   {`{tokens: {alice: {role: viewer}}}`, "token"},
		"a token in the file itself": {`{tokens: {alice: {role: viewer, token: "a token of enough length"}}}`, "reference"},
		"a short token":              {`{tokens: {alice: {role: viewer, token: "env:SHORT"}}}`, "at least 16"},
		"a day that isn't one":       {`{tokens: {alice: {role: viewer, token: "env:SECRET", expires: "tomorrow"}}}`, "2027-03-01"},
		"a name with blanks":         {`{tokens: {"a b": {role: viewer, token: "env:SECRET"}}}`, "lower-case"},
		"one token for two":          {`{tokens: {alice: {role: viewer, token: "env:SECRET"}, bob: {role: operator, token: "env:SECRET"}}}`, "a token of its own"},
		"half of a certificate":      {`{tls: {cert: cert.pem}}`, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pipeline.Decode("tercel.yaml", []byte(source+"console: "+tt.section+"\n"), config.WithLookupEnv(func(name string) (string, bool) {
				if name == "SHORT" {
					return "fifteen letters", true
				}
				return "a secret of enough length", true
			}))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Decode() = %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Decode() = %v, want a fault about %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "of enough length") {
				t.Errorf("a secret is in the fault: %v", err)
			}
		})
	}
}

func TestATokenEndsWithTheDayBefore(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"": {}, "2027-03-01": time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC),
		"2027-03-01T12:00:00+01:00": time.Date(2027, 3, 1, 11, 0, 0, 0, time.UTC), "soon": {},
	} {
		if got := (pipeline.Token{Expires: text}).ExpiresAt(); !got.Equal(want) {
			t.Errorf("ExpiresAt() of %q = %s, want %s", text, got, want)
		}
	}
}
