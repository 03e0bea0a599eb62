package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
)

// No way of printing shows a secret, alone or inside other values, not even
// from an unexported field, whose methods fmt doesn't call.
func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const value = "hunter2"
	secret := config.NewSecret(value)
	type holder struct {
		Public  config.Secret
		private config.Secret
		list    []config.Secret
		byName  map[string]config.Secret
		pointer *config.Secret
	}
	held := holder{secret, secret, []config.Secret{secret}, map[string]config.Secret{"a": secret}, &secret}
	for _, v := range []any{secret, &secret, held, &held, []any{secret, held}, map[string]any{"a": held}} {
		for _, verb := range strings.Split("bcdeEfFgGoOpqsStTUvxX", "") {
			for _, flags := range []string{"", "+", "#", " ", "020"} {
				if got := fmt.Sprintf("%"+flags+verb, v); strings.Contains(got, value) || strings.Contains(got, fmt.Sprintf("%x", value)) {
					t.Errorf("%%%s%s of %T shows the value: %s", flags, verb, v, got)
				}
			}
		}
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("marshal %T: %v", v, err)
		}
		if out.Write(b); strings.Contains(out.String(), value) {
			t.Errorf("slog or json of %T shows the value: %s", v, out.String())
		}
	}
	b, err := xml.Marshal(secret)
	if err != nil || strings.Contains(string(b), value) {
		t.Errorf("xml = %s, %v", b, err)
	}
	for _, got := range []string{secret.String(), secret.GoString(), secret.LogValue().String(), fmt.Sprintf("%d", secret)} {
		if got != "[redacted]" {
			t.Errorf("secret prints %q, want [redacted]", got)
		}
	}
	if secret.Reveal() != value || secret.Ref() != "" || secret.IsZero() || !(config.Secret{}).IsZero() {
		t.Errorf("NewSecret reveals %q from %q", secret.Reveal(), secret.Ref())
	}
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := strings.Repeat("x", 64<<10+1)
	tests := map[string]struct{ path, value, fault string }{
		"one line break goes":  {path: file("a", "hunter2\n\n"), value: "hunter2\n"},
		"a Windows line break": {path: file("b", "hunter2\r\n"), value: "hunter2"},
		"no line break":        {path: file("c", "hunter2"), value: "hunter2"},
		"empty":                {path: file("d", " \n"), fault: "that is empty"},
		"too large":            {path: file("e", large), fault: "that is larger than 64 KiB"},
		"absent":               {path: filepath.Join(dir, "none"), fault: "that does not exist"},
		"a folder":             {path: dir, fault: "that is not a regular file"},
		"a device":             {path: os.DevNull, fault: "that is not a regular file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got settings
			faults := strings.Join(decode(t, "token: file:"+tt.path+"\n", &got), "\n")
			want := ""
			if tt.fault != "" {
				want = fmt.Sprintf("1:8: token: found %q %s, want the name of a secret that has a value", "file:"+tt.path, tt.fault)
			}
			if got.Token.Reveal() != tt.value || faults != want {
				t.Errorf("token = %q with %s, want %q with %s", got.Token.Reveal(), faults, tt.value, want)
			}
		})
	}
}

// What a secret holds is nobody's instruction: no reference in it is followed, and
// nothing of it is read as YAML.
func TestSecretsAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("another secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"a reference to a variable": "env:TOKEN",
		"a reference to a file":     "file:" + other,
		"a plain one":               "plain:hunter2",
		"a mapping":                 "{a: 1, token: env:TOKEN}",
		"a list":                    "- a\n- b",
		"an anchor and its use":     "&a x *a",
		"quotes":                    `"hunter2" # 'no comment'`,
		"a number":                  "0x10",
		"null":                      "~",
		"documents":                 "---\nx\n---\ny",
		"a template":                "${TOKEN} $TOKEN {{ .Token }} %s",
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, ref := range []string{"env:HELD", "file:" + path} {
				var got settings
				err := config.Decode("f", []byte("token: "+ref+"\n"), &got, config.WithLookupEnv(func(name string) (string, bool) {
					if name == "HELD" {
						return content, true
					}
					t.Errorf("variable %s was looked up", name)
					return "", false
				}))
				if err != nil || got.Token.Reveal() != content || got.Token.Ref() != ref {
					t.Errorf("%s is read as %q, %v; want %q", ref, got.Token.Reveal(), err, content)
				}
			}
		})
	}
}

// Whatever is written where a secret belongs, no fault repeats it.
func TestFaultsHideSecrets(t *testing.T) {
	t.Parallel()
	const literal = "found [redacted], want a reference, env:NAME or file:/path, instead of the secret itself"
	tests := map[string]struct{ file, want string }{
		"a literal":                       {"token: hunter2\n", "1:8: token: " + literal},
		"a number":                        {"token: 77777\n", "1:8: token: " + literal},
		"a block":                         {"token: |\n  hunter2\n", "1:8: token: " + literal},
		"an odd variable":                 {"token: env:hunter2!\n", "1:8: token: " + literal},
		"a relative file":                 {"token: file:hunter2\n", "1:8: token: " + literal},
		"an absent variable":              {"token: env:NONE\n", `1:8: token: found "env:NONE" that is not set, want the name of a secret that has a value`},
		"a blank variable":                {"token: env:BLANK\n", `1:8: token: found "env:BLANK" that is empty, want the name of a secret that has a value`},
		"a mapping":                       {"token: {env: hunter2}\n", "1:8: token: found a mapping, want a reference, env:NAME or file:/path, instead of the secret itself"},
		"nothing":                         {"token:\n", "1:7: token: found nothing, want a reference, env:NAME or file:/path, instead of the secret itself"},
		"in a list":                       {"secrets: [hunter2]\n", "1:11: secrets[0]: " + literal},
		"instead of a list":               {"secrets: hunter2\n", "1:10: secrets: found [redacted], want a list"},
		"instead of its mapping":          {"sources: {a: {api: hunter2}}\n", "1:20: sources.a.api: found [redacted], want a mapping\n1:20: sources.a.api.base: missing, want a URL"},
		"in a file that is none":          {"token: \"hunter2\n", "1:8: invalid YAML: could not find end character of double-quoted text"},
		"after a space too few in braces": {"labels: {token:hunter2}\n", "1:10: labels: found a key without a value, want key, colon, space and value"},
		"after a space too few":           {"token:hunter2\n", "1:1: found [redacted], want a mapping"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(decode(t, tt.file, &settings{}), "\n")
			if got != tt.want {
				t.Errorf("faults:\n%s\nwant:\n%s", got, tt.want)
			}
			if strings.Contains(got, "hunter2") || strings.Contains(got, "77777") {
				t.Errorf("a fault shows the secret: %s", got)
			}
		})
	}
}
