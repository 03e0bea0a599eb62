package event_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

func TestFetchesAreWrittenAndRead(t *testing.T) {
	t.Parallel()
	f := event.Fetches{
		{Name: "record", Status: 200, Tries: 2, Took: 34 * time.Millisecond, From: event.FromSource},
		{Name: "the customer;", Status: 200, Took: 0, From: event.FromCache},
		{Name: "lines", Status: 200, Tries: 1, Took: time.Second, From: event.FromUnchanged},
		{Name: "gone", Status: 404, Tries: 0, Took: time.Second, From: event.FromShared},
	}
	text := f.String()
	if want := "record,200,2,34;the%20customer%3B,200,0,0,c;lines,200,1,1000,u;gone,404,0,1000,s"; text != want {
		t.Errorf("String() = %q, want %q", text, want)
	}
	if got, err := event.ParseFetches(text); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("ParseFetches() = %+v, %v; want %+v", got, err, f)
	}
	if got, err := event.ParseFetches(""); got != nil || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	var many event.Fetches
	for i := range 100 {
		many = append(many, event.Fetch{Name: fmt.Sprint("n", i), Status: 200, From: event.FromSource})
	}
	if got, err := event.ParseFetches(many.String()); err != nil || len(got) != 16 {
		t.Errorf("of 100 fetches %d are written, %v; want 16", len(got), err)
	}
}

func TestFetchesThatNobodyWroteAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"record", "record,200,1", "record,200,1,2,3,4", "record,a,1,2", "record,200,-1,2", "record,200,1,2,x", ",200,1,2", "record,200,1,2;",
		"record,200,1,99999999999", "record,200,1,2,", strings.Repeat("r,200,1,2;", 20) + "r,200,1,2",
	} {
		if got, err := event.ParseFetches(text); err == nil {
			t.Errorf("ParseFetches(%q) = %+v, want an error", text, got)
		}
	}
}

func FuzzParseFetches(f *testing.F) {
	f.Add("record,200,1,34;customer,200,0,12,c")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := event.ParseFetches(text)
		if err != nil {
			return
		}
		again, err := event.ParseFetches(got.String())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("ParseFetches(%q) = %+v, written and read again %+v, %v", text, got, again, err)
		}
	})
}

func TestCheckedIsWrittenAndRead(t *testing.T) {
	t.Parallel()
	c := event.Checked{Took: 312 * time.Microsecond, By: "ingress-0"}
	if got, err := event.ParseChecked(c.String()); c.String() != "312,ingress-0" || err != nil || got != c {
		t.Errorf("%s is read as %+v, %v", c, got, err)
	}
	long := event.Checked{Took: -1, By: strings.Repeat("h", 99)}
	if got, err := event.ParseChecked(long.String()); err != nil || got.Took != 0 || len(got.By) != 32 {
		t.Errorf("%s is read as %+v, %v", long, got, err)
	}
	for _, text := range []string{"", "312", "a,b", "-1,b", "1," + strings.Repeat("h", 33), "99999999999999999,b"} {
		if got, err := event.ParseChecked(text); err == nil {
			t.Errorf("ParseChecked(%q) = %+v, want an error", text, got)
		}
	}
}
