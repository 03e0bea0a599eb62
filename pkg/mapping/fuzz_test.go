package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/mapping"
)

// programs use every part of the language that looks at values.
var programs = []string{
	`.`, `.record`, `.trigger.livemode == false`, `[.. | numbers] | add`, `[.. | strings] | map(ascii_downcase) | unique`,
	`.record | to_entries | map({(.key): .value}) | add`, `[paths] | length > 3`, `.record | tojson | fromjson`,
	`[.. | strings | test("^a+b")] | any`, `.record.n * 2 + .record.n / 3 % 7`, `"x" * .record.n`, `[range(.record.n)] | length`,
	`.record[.record.n]`, `.record.list | sort_by(.a) | group_by(.b) | map(length)`, `.record | @text, @json`, `.record.list | @csv`,
	`.record.s | @base64d`, `.record.s | split(",") | join(";")`, `[.record.list | combinations] | length`, `.record.list[.record.n] = 1`,
	`.record | walk(if type == "object" then del(.a) else . end)`, `.record.s | strptime("%Y") | mktime`, `.record.list | implode`,
	`[.record | limit(.n; repeat(1))]`, `.record.list | flatten | transpose`, `.record | with_entries(.value |= tostring)`,
}

// Whatever the document: no panic, an end in time, and an answer that is JSON
// of a bounded size or a permanent error.
func FuzzValue(f *testing.F) {
	exprs := make([]mapping.Expr, len(programs))
	for i, p := range programs {
		exprs[i] = parsed(f, p)
	}
	for i := range programs {
		for _, seed := range []string{
			`{"n":3,"s":"a,b","list":[{"a":1,"b":2},[1,2],"x",null,1e400]}`, `{"n":1e9,"s":"2026","list":[[1,2],[3,4]]}`,
			`{"n":-1.5,"list":[99999999999999999999999,-0,65,1114112]}`, `null`, `"\ud800"`, strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		} {
			f.Add(byte(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, program byte, record []byte) {
		e := exprs[int(program)%len(exprs)]
		started := time.Now()
		got, err := e.Value(t.Context(), &mapping.Document{Record: record})
		if took := time.Since(started); took > 30*time.Second {
			t.Errorf("%s took %s", e, took)
		}
		switch {
		case err != nil && !fault.IsPermanent(err):
			t.Errorf("%s: %v, want a permanent error", e, err)
		case err == nil && (len(got) > 8<<20 || !got.IsValid(jsontext.AllowDuplicateNames(false))):
			t.Errorf("%s gives %d bytes of no JSON", e, len(got))
		}
	})
}
