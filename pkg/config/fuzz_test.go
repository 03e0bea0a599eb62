package config_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tercelhq/tercel/pkg/config"
)

// Whatever the file, decoding ends without a panic, every fault lies within
// the file, and none shows the value of a secret.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: x\non: true\ncount: 1\nratio: 1.5\nevery: 7d\nsize: 1MiB\nmode: upsert\n",
		"token: env:TOKEN\nsecrets: [env:TOKEN, file:/none, literal]\n",
		"sources:\n  a.b: {api: {base: x}, preset: strpe, resources: {r: {cursor: y}, s: z, t: }}\n",
		"list:\n- a\n-\n- |\n  b\nlabels: {a: 1, a: 2}\nnext: [x]\nwindow: {settle: 2m}\n",
		"\ufeff---\nname: 'a''b'\n...\n", "a: &x 1\nb: *x\n<<: *x\n? c\n: !t d\n%Y\n---\n", "name: é\r\nlog: \"\\u00e9\rx",
		"window:\n\tsettle: 1m\n", strings.Repeat("[", 70), "a:\n" + strings.Repeat("- ", 70), "- >-\n\n  x\n # c\n", "!!!", "{a, b: }",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lookup := func(string) (string, bool) { return "s3cr3t-value", true }
		err := config.Decode("f", data, &settings{}, config.WithLookupEnv(lookup))
		if err == nil {
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("Decode() = %v, want Faults", err)
		}
		if strings.Contains(err.Error(), "s3cr3t-value") && !strings.Contains(string(data), "s3cr3t-value") {
			t.Errorf("a fault shows a secret: %v", err)
		}
		text := strings.TrimPrefix(string(data), "\ufeff")
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > len(lines) || fault.Column < 1 || fault.Column > utf8.RuneCountInString(lines[fault.Line-1])+1 {
				t.Errorf("%v: outside the file", fault)
			}
			if fault.Found == "" && fault.Want == "" || strings.Contains(fault.Error(), "\n") {
				t.Errorf("%q: want one line that says what is wrong", fault.Error())
			}
			if strings.Contains(fault.Found, "cannot be read as YAML") {
				t.Errorf("%v: the YAML library panicked", fault)
			}
		}
	})
}
