package config_test

import (
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/config"
)

// document is a node as JSON, and where it stands.
type document struct {
	text  string
	place string
	ok    bool
}

func (d *document) DecodeNode(n config.Node) {
	text, ok := n.JSON()
	*d = document{string(text), n.Place(), ok}
}

func TestNodeAsJSON(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"{a: 1, b: [x, \"7\", true, null, ~], c: {}}": `{"a":1,"b":["x","7",true,null,null],"c":{}}`,
		"900719925474099312":                          `900719925474099312`,
		"1.10":                                        `1.10`,
		"True":                                        `true`,
		"|-\n  a\n  \"b\"":                            `"a\n\"b\""`,
		"":                                            `null`,
		"2026-03-01T12:00:00Z":                        `"2026-03-01T12:00:00Z"`,
	} {
		var file struct {
			V document `yaml:"v"`
		}
		if err := config.Decode("f.yaml", []byte("v: "+yaml+"\n"), &file); err != nil || !file.V.ok || file.V.text != want {
			t.Errorf("%s is %s, %v, want %s", yaml, file.V.text, err, want)
		}
		if !strings.HasPrefix(file.V.place, "f.yaml:1:") || !strings.HasSuffix(file.V.place, ": v") {
			t.Errorf("%s is at %s, want line 1 and key v", yaml, file.V.place)
		}
	}
	for yaml, want := range map[string]string{
		"[0x10]":       "f.yaml:1:5: v[0]: found 0x10, want a value that JSON has too",
		"{a: 1, a: 2}": "key given twice",
		".nan":         "found .nan",
	} {
		var file struct {
			V document `yaml:"v"`
		}
		if err := config.Decode("f.yaml", []byte("v: "+yaml+"\n"), &file); err == nil || !strings.Contains(err.Error(), want) || file.V.ok {
			t.Errorf("%s: %v, want %s", yaml, err, want)
		}
	}
}
