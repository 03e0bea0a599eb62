package consume_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/fault"
)

func TestReasonIsBoundedAndReadBack(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	for name, message := range map[string]string{
		"plain": "order 7: status 500", "quotes": `say "x"`, "long": strings.Repeat("é", 10_000), "no UTF-8": "a\xffb", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := consume.Reason{Class: fault.Exhausted, Message: message, Detail: message, Attempts: 12, FirstAt: at, LastAt: at.Add(time.Hour), TraceID: "0af7"}
			text := r.Encode()
			got := consume.DecodeReason(text)
			if len(text) > 10<<10 || strings.ContainsAny(text, "\r\n") {
				t.Errorf("%d bytes %.80q, want one line of at most 10 KiB", len(text), text)
			}
			if got.Class != r.Class || got.Attempts != 12 || !got.LastAt.Equal(r.LastAt) || got.TraceID != "0af7" || got.Detail != got.Message ||
				!strings.HasPrefix(got.Message, strings.ToValidUTF8(message[:min(len(message), 4000)], "\uFFFD")) {
				t.Errorf("DecodeReason() = %.200v", got)
			}
		})
	}
	if got := consume.DecodeReason("Unacknowledged message was deleted"); got.Class != fault.Exhausted || got.Message == "" {
		t.Errorf("DecodeReason() of the server's own = %+v", got)
	}
}

func FuzzDecodeReason(f *testing.F) {
	f.Add(`{"class":"permanent","message":"x","attempts":1}`)
	f.Add("Unacknowledged message was deleted")
	f.Add(`{"class":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		if r := consume.DecodeReason(text); r.Class == "" {
			t.Errorf("DecodeReason(%q) has no class", text)
		}
	})
}

func ExampleReason_Encode() {
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	fmt.Println(consume.Reason{Class: fault.Fatal, Message: "order 7: status 422", Attempts: 1, FirstAt: at, LastAt: at}.Encode())
	// Output: {"class":"permanent","message":"order 7: status 422","attempts":1,"first_at":"2026-11-03T12:00:00Z","last_at":"2026-11-03T12:00:00Z"}
}
