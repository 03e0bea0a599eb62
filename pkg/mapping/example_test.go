package mapping_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/mapping"
)

func ExampleExpr_Value() {
	e, err := mapping.Parse(`{order: .record.id, total: (.record.lines | map(.price) | add)}`)
	if err != nil {
		panic(err)
	}
	doc := &mapping.Document{Record: jsontext.Value(`{"id": 900719925474099312, "lines": [{"price": 3}, {"price": 4}]}`)}
	fmt.Println(e.Value(context.Background(), doc))
	// Output: {"order":900719925474099312,"total":7} <nil>
}

// What an expression costs on an event of 2 KB, reading the document included.
func BenchmarkExpr(b *testing.B) {
	record := jsontext.Value(`{"id":900719925474099312,"status":"paid","customer":{"id":"c1","email":"a@example.com"},"lines":[` +
		strings.TrimSuffix(strings.Repeat(`{"sku":"A-1","price":1.10,"quantity":2,"tags":["x","y"]},`, 15), ",") + `]}`)
	for name, text := range map[string]string{
		"when": `.record.status == "paid"`,
		"map":  `{id: .record.id, email: .record.customer.email, total: (.record.lines | map(.price * .quantity) | add)}`,
	} {
		e := parsed(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Value(b.Context(), &mapping.Document{Trigger: record, Record: record}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("when alone", func(b *testing.B) {
		e := parsed(b, `.event.type == "order.paid"`)
		for b.Loop() {
			if _, err := e.Value(b.Context(), &mapping.Document{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
