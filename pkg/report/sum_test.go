package report_test

import (
	"reflect"
	"testing"

	"github.com/tercelhq/tercel/pkg/report"
)

// A number that Plus forgets would be missing from every sum.
func TestPlusAddsEveryNumber(t *testing.T) {
	t.Parallel()
	count := func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Int:
				f.SetInt(int64(i + 1))
			case reflect.Bool:
				f.SetBool(true)
			}
		}
	}
	check := func(once, twice, joined reflect.Value) {
		t.Helper()
		for i := range once.NumField() {
			name := once.Type().Field(i).Name
			switch once.Field(i).Kind() {
			case reflect.Int:
				if got, want := twice.Field(i).Int(), 2*once.Field(i).Int(); got != want {
					t.Errorf("%s = %d, want %d", name, got, want)
				}
			case reflect.Bool:
				if !joined.Field(i).Bool() {
					t.Errorf("%s = false, want what one of them says", name)
				}
			}
		}
	}
	var c report.Counts
	count(reflect.ValueOf(&c).Elem())
	check(reflect.ValueOf(c), reflect.ValueOf(c.Plus(c)), reflect.ValueOf(report.Counts{}.Plus(c)))
	var d report.Destination
	count(reflect.ValueOf(&d).Elem())
	d.Held = set(member{"a", 1})
	sum := d.Plus(report.Destination{Held: set(member{"b", 2})})
	check(reflect.ValueOf(d), reflect.ValueOf(d.Plus(d)), reflect.ValueOf(report.Destination{}.Plus(d)))
	if want := set(member{"b", 2}, member{"a", 1}); sum.Held != want {
		t.Errorf("held %+v, want %+v", sum.Held, want)
	}
}
