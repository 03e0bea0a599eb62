package config_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// every has a field of each kind that has a schema of its own.
type every struct {
	Text   string            `yaml:"text"`
	Mode   mode              `yaml:"mode"`
	Secret config.Secret     `yaml:"secret"`
	Small  uint8             `yaml:"small"`
	Share  float64           `yaml:"share"`
	Inner  *every            `yaml:"inner"` // has itself inside
	Odd    either            `yaml:"odd"`
	Map    map[string]bool   `yaml:"map"`
	List   []config.Bytes    `yaml:"list"`
	In     inlinedForSchema  `yaml:",inline"`
	Hidden map[string]string `yaml:"-"`
}

type inlinedForSchema struct {
	Wait time.Duration `yaml:"wait"`
}

// either is text, or a mapping with its own field.
type either struct {
	Name string `yaml:"name"`
}

func (either) Forms() []any { return []any{"", either{}} }

func (e *either) DecodeNode(n config.Node) {
	if n.Kind() == config.Scalar {
		e.Name = n.Text()
		return
	}
	n.Decode(e)
}

func TestSchema(t *testing.T) {
	t.Parallel()
	s, err := config.Schema(reflect.TypeFor[every](), func(typ reflect.Type, field string) string {
		if typ.Name() == "either" && field == "Name" {
			return "Name is said."
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s["$defs"])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"text":{"type":["string","number","boolean"]}`,
		`"config_test.mode":{"enum":["append","upsert"],"type":"string"}`,
		`"small":{"minimum":0,"type":"integer"}`,
		`"share":{"type":"number"}`,
		`"inner":{"anyOf":[{"$ref":"#/$defs/config_test.every"},{"type":"null"}]}`,
		`"config_test.either":{"anyOf":[{"type":["string","number","boolean"]},{"additionalProperties":false,` +
			`"properties":{"name":{"description":"Name is said.","type":["string","number","boolean"]}},"type":"object"}]}`,
		`"map":{"additionalProperties":{"type":"boolean"},"type":"object"}`,
		`"list":{"items":{"anyOf":[`,
		`"wait":{"anyOf":[`,
		`"secret":{"pattern":`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the schema lacks %s\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "idden") {
		t.Errorf("the schema has a field that is no part of the file:\n%s", text)
	}
}

// A type that decodes itself has forms that nothing could guess.
func TestSchemaWantsForms(t *testing.T) {
	t.Parallel()
	type file struct {
		Page page `yaml:"page"`
	}
	_, err := config.Schema(reflect.TypeFor[file](), func(reflect.Type, string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "config_test.page: decodes itself and doesn't say which forms it has") {
		t.Errorf("Schema() = %v, want an error about page", err)
	}
}

func ExampleSchema() {
	type limits struct {
		Requests int `yaml:"requests"`
	}
	s, err := config.Schema(reflect.TypeFor[map[string]limits](), func(_ reflect.Type, field string) string {
		return strings.TrimSpace(field + " of a limit.")
	})
	if err != nil {
		panic(err)
	}
	text, _ := json.MarshalIndent(s["$defs"], "", "  ")
	fmt.Println(string(text))
	// Output:
	// {
	//   "config_test.limits": {
	//     "additionalProperties": false,
	//     "description": "of a limit.",
	//     "properties": {
	//       "requests": {
	//         "description": "Requests of a limit.",
	//         "type": "integer"
	//       }
	//     },
	//     "type": "object"
	//   }
	// }
}
