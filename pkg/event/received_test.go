package event_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/event"
)

func TestReceivedIsWrittenAndRead(t *testing.T) {
	t.Parallel()
	b := event.AppendAddress(nil, true, "a=1&b=%20")
	b = event.AppendReceived(b, "X-Signature", []string{"sha256=00ff,; /?: "})
	b = event.AppendReceived(b, "X-Odd", []string{"caf\xe9\t\"%41\"", ""})
	b = event.AppendReceived(b, "X-Absent", nil)
	b = event.AppendWithheld(b, "Authorization")
	text := event.ReceivedText(b)
	if strings.ContainsAny(text, " \t\r\n\"") || strings.IndexByte(text, 0xe9) >= 0 {
		t.Errorf("%q can't be a header's value", text)
	}
	got, err := event.ParseReceived(text)
	want := event.Received{
		Account: true, Query: "a=1&b=%20", Withheld: []string{"Authorization"},
		Header: http.Header{"X-Signature": {"sha256=00ff,; /?: "}, "X-Odd": {"caf\xe9\t\"%41\"", ""}, "X-Absent": nil},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s is read as %+v, %v, want %+v", text, got, err, want)
	}
	if !got.Knows("X-Absent") || !got.Knows("X-Odd") || got.Knows("X-Other") || got.Knows("Authorization") {
		t.Error("it doesn't tell a header that didn't come from one that nobody looked at")
	}
	// An event reads its other headers whatever is in this one.
	e := sample()
	e.Received = text
	if again, err := event.FromHeader(e.Header()); err != nil || again.Received != text {
		t.Errorf("as a header of an event: %q, %v", again.Received, err)
	}
}

func TestReceivedIsBounded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{event.MaxReceived - 100: false, event.MaxReceived + 1: true} {
		text := event.ReceivedText(event.AppendReceived(nil, "X-Signature", []string{strings.Repeat("s", n)}))
		if got, err := event.ParseReceived(text); err != nil || got.TooLarge != want || len(text) > event.MaxReceived {
			t.Errorf("of %d bytes: %d, too large %t, %v", n, len(text), got.TooLarge, err)
		}
	}
	spaces := event.ReceivedText(event.AppendReceived(nil, "X", []string{strings.Repeat(" ", event.MaxReceived/2)}))
	if got, _ := event.ParseReceived(spaces); !got.TooLarge {
		t.Errorf("what takes more room escaped is kept in %d bytes", len(spaces))
	}
	for _, text := range []string{
		"X", "=1:a", "X=2:a", "X=:a", "X=-1:a", "X=1a", "X=99999999:a", "?", "x?1:a", "x/", ",", ";", "%4", "X=1:a@", strings.Repeat("X,", 5000),
	} {
		if got, err := event.ParseReceived(text); err == nil {
			t.Errorf("ParseReceived(%.20q) = %+v, want an error", text, got)
		}
	}
}

func FuzzReceived(f *testing.F) {
	f.Add("X-Signature=4:00ff")
	f.Add("/?3:a=1X,Y;Z=0:Z=1:%25")
	f.Add("@")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := event.ParseReceived(text)
		if err != nil || r.TooLarge {
			return
		}
		b := event.AppendAddress(nil, r.Account, r.Query)
		for name, values := range r.Header {
			b = event.AppendReceived(b, name, values)
		}
		for _, name := range r.Withheld {
			b = event.AppendWithheld(b, name)
		}
		again, err := event.ParseReceived(event.ReceivedText(b))
		if err == nil && again.TooLarge {
			return
		}
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("ParseReceived(%q) = %+v, written and read again %+v, %v", text, r, again, err)
		}
	})
}

func ExampleParseReceived() {
	r, err := event.ParseReceived("X-Signature=8:00c0ffeeX-Delivery,Authorization;")
	fmt.Println(r.Header.Get("X-Signature"), r.Knows("X-Delivery"), r.Withheld, err)
	// Output: 00c0ffee true [Authorization] <nil>
}
