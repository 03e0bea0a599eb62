package event_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
)

func checked() event.Checked {
	return event.Checked{
		Took: 312 * time.Microsecond, Read: 80 * time.Microsecond, By: "ingress-0", Scheme: "hmac-sha256", Key: "env:SHOP_SECRET",
		Age: 2100 * time.Millisecond, Tolerance: 5 * time.Minute, Origin: event.OriginAny, Body: event.BodyJSON, ID: event.IDSigned,
		Schema: event.SchemaMatched, Window: 30 * time.Minute,
	}
}

func TestVerdictsAreWrittenAndRead(t *testing.T) {
	t.Parallel()
	if got, want := checked().String(), "312,ingress-0;r=80;s=hmac-sha256,env:SHOP_SECRET;a=2100,300000;o=any;b=json;i=signed;c=ok;d=1800,0"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
	tests := map[string]struct {
		change func(*event.Checked)
		want   event.Verdict
	}{
		"a key with a name":       {func(*event.Checked) {}, event.Verdict{"signature", event.Passed, "hmac-sha256, by env:SHOP_SECRET"}},
		"no signature":            {func(c *event.Checked) { c.Scheme, c.Key = "none", "" }, event.Verdict{"signature", event.Passed, "none"}},
		"a credential":            {func(c *event.Checked) { c.Scheme, c.Key, c.Again = "token", event.KeyNotStored, true }, event.Verdict{"signature", event.NotRepeated, "token: the credential is not stored"}},
		"signed before":           {func(*event.Checked) {}, event.Verdict{"timestamp", event.Passed, "signed 2.1s before it came, at most 5m0s"}},
		"a clock that is ahead":   {func(c *event.Checked) { c.Age = -time.Second }, event.Verdict{"timestamp", event.Passed, "signed 1s after it came, by the sender's clock, at most 5m0s"}},
		"from anywhere":           {func(*event.Checked) {}, event.Verdict{"origin", event.Passed, "any address may send"}},
		"from where it may":       {func(c *event.Checked) { c.Origin = event.OriginAllowed }, event.Verdict{"origin", event.Passed, "the address is the source's"}},
		"from where, is not kept": {func(c *event.Checked) { c.Origin = event.OriginUnknown }, event.Verdict{"origin", event.NotRepeated, "the sender's address is not stored"}},
		"strict JSON":             {func(*event.Checked) {}, event.Verdict{"structure", event.Passed, "strict JSON"}},
		"any bytes":               {func(c *event.Checked) { c.Body = event.BodyAny }, event.Verdict{"structure", event.Passed, "any bytes"}},
		"an id of our own":        {func(c *event.Checked) { c.ID = event.IDOwn }, event.Verdict{"event id", event.Passed, "one of our own"}},
		"a word of a later time":  {func(c *event.Checked) { c.ID = "guessed" }, event.Verdict{"event id", event.Passed, "guessed"}},
		"a schema that matches":   {func(*event.Checked) {}, event.Verdict{"schema", event.Passed, "matched"}},
		"one that doesn't":        {func(c *event.Checked) { c.Schema = "required@/total" }, event.Verdict{"schema", event.Warned, "not matched: required@/total"}},
		"within the window":       {func(*event.Checked) {}, event.Verdict{"repeat", event.Passed, "no repeat within 30m0s"}},
		"and beyond": {func(c *event.Checked) { c.Horizon = time.Hour }, event.Verdict{
			"repeat", event.Passed, "no repeat within 30m0s, nor as far as is known within 1h0m0s",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := checked()
			tt.change(&c)
			got, err := event.ParseChecked(c.String())
			if err != nil || got != c {
				t.Fatalf("%s is read as %+v, %v", c, got, err)
			}
			for _, v := range got.Verdicts() {
				if v.Check == tt.want.Check && v == tt.want {
					return
				}
			}
			t.Errorf("verdicts %q, want %q among them", got.Verdicts(), tt.want)
		})
	}
	if got := (event.Checked{Took: 1, By: "h"}).Verdicts(); got != nil {
		t.Errorf("a header from before there were verdicts has %q", got)
	}
}

// Whatever names keys, hosts and properties have, the header stays one, short and
// readable.
func TestVerdictsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x;=,%\r\n\x00é ", 100)
	c := event.Checked{By: long, Scheme: long, Key: long, Schema: long, Origin: long, Body: long, ID: long, Tolerance: time.Hour}
	text := c.String()
	if len(text) > 512 || strings.ContainsAny(text, "%\r\n\x00 ") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if got, err := event.ParseChecked(text); err != nil || len(got.Key) > 64 || got.Tolerance != time.Hour {
		t.Errorf("%s is read as %+v, %v", text, got, err)
	}
	for _, text := range []string{
		"1,h;r=", "1,h;r=x", "1,h;a=1", "1,h;a=1,x", "1,h;d=1", "1,h;s=", "1,h;r=99999999999", "1,h;c=" + strings.Repeat("c", 129),
	} {
		if got, err := event.ParseChecked(text); err == nil {
			t.Errorf("ParseChecked(%q) = %+v, want an error", text, got)
		}
	}
	if got, err := event.ParseChecked("1,h;zz=9;v"); err != nil || !got.Again {
		t.Errorf("with a field of a later time: %+v, %v", got, err)
	}
}

func FuzzChecked(f *testing.F) {
	f.Add(checked().String())
	f.Add("1,h;v;s=token,?;d=1,2")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := event.ParseChecked(text)
		if err != nil {
			return
		}
		c.Verdicts()
		again, err := event.ParseChecked(c.String())
		if err != nil || !reflect.DeepEqual(again.String(), c.String()) {
			t.Fatalf("ParseChecked(%q) = %+v, written and read again %+v, %v", text, c, again, err)
		}
	})
}
