package hostile_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"strings"
	"testing"
)

const roomySource = `
  roomy:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    request: {max_body: 12MiB, encodings: [gzip], content_types: [application/json, application/x-www-form-urlencoded, multipart/form-data]}
`

// What is genuinely signed and can't be read as one JSON value alone is refused, and
// what can is taken, whatever it holds. (Promises 2 and 8.)
func TestMalformedBodies(t *testing.T) {
	slow(t)
	w := start(t, part{sources: badSource + roomySource, services: []string{"ingress"}})
	w.withstand(w.ingress, func() map[string]attack {
		all := map[string]attack{}
		for name, body := range refusedBodies() {
			all[name] = attack{send: w.signed("bad", unstored, body).String(), want: "400"}
		}
		for name, body := range takenBodies() {
			// The body's hash is a part of the id, so that it is new each time.
			body = strings.TrimSuffix(body, "}") + `,"at":"` + w.unique() + `"}`
			all[name] = attack{send: w.signed("roomy", w.unique(), body).String(), want: "200", stored: 1}
		}
		for name, a := range encodedBodies(w) {
			all[name] = a
		}
		return all
	})
}

func refusedBodies() map[string]string {
	return map[string]string{
		"nothing":                      "",
		"white space":                  " \n\t ",
		"a mark of UTF-8":              "\xef\xbb\xbf" + goodBody,
		"UTF-16":                       "\xff\xfe{\x00}\x00",
		"UTF-16 without a mark":        "{\x00}\x00",
		"UTF-32":                       "{\x00\x00\x00}\x00\x00\x00",
		"UTF-7":                        "+AHsAfQ-",
		"no UTF-8":                     "{\"kind\":\"a\xff\"}",
		"UTF-8, overlong":              "{\"kind\":\"a\xc0\xaf\"}",
		"UTF-8, a surrogate":           "{\"kind\":\"a\xed\xa0\x80\"}",
		"UTF-8, cut":                   "{\"kind\":\"a\xe2\x82",
		"half a surrogate":             `{"kind":"a","x":"\ud800"}`,
		"halves the wrong way":         `{"kind":"a","x":"\udc00\ud800"}`,
		"a raw NUL":                    "{\"kind\":\"a\x00b\"}",
		"NUL behind the end":           goodBody + "\x00",
		"a raw line break":             "{\"kind\":\"a\nb\"}",
		"an unknown escape":            `{"kind":"a\x41"}`,
		"half an escape":               `{"kind":"a\u00"}`,
		"NaN":                          `{"kind":"a","n":NaN}`,
		"Infinity":                     `{"kind":"a","n":-Infinity}`,
		"a number in hex":              `{"kind":"a","n":0x10}`,
		"a number with a plus":         `{"kind":"a","n":+1}`,
		"a number with a zero":         `{"kind":"a","n":01}`,
		"a number without digits":      `{"kind":"a","n":1.}`,
		"a comment":                    `{"kind":"a"/* b */}`,
		"a comment to the line's end":  "{\"kind\":\"a\"} // b",
		"a comma too many":             `{"kind":"a",}`,
		"single quotes":                `{'kind':'a'}`,
		"names without quotes":         `{kind:"a"}`,
		"cut":                          `{"kind":"a"`,
		"two values":                   goodBody + goodBody,
		"two values in lines":          goodBody + "\n" + goodBody,
		"something behind":             goodBody + "]",
		"a guard in front":             ")]}'\n" + goodBody,
		"a name twice":                 `{"kind":"a","kind":"b"}`,
		"a name twice, once escaped":   `{"kind":"a","\u006bind":"b"}`,
		"a name twice, deep":           `{"kind":"a","o":[{"o":{"x":1,"x":1}}]}`,
		"another case":                 `{"Kind":"a","KIND":"b"}`,
		"another case, of Turkish":     `{"K\u0131nd":"a"}`,
		"another k":                    `{"\u212aind":"a"}`,
		"deep arrays":                  `{"kind":"a","x":` + strings.Repeat("[", 200_000),
		"deep arrays that end":         `{"kind":"a","x":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `}`,
		"deep objects":                 strings.Repeat(`{"kind":`, 100_000),
		"an array":                     `["kind"]`,
		"a text":                       `"kind"`,
		"a number":                     `1e999999`,
		"null":                         `null`,
		"no type":                      `{}`,
		"a type that is null":          `{"kind":null}`,
		"a type that is empty":         `{"kind":""}`,
		"a type that is an object":     `{"kind":{"a":1}}`,
		"a type that is an array":      `{"kind":["a"]}`,
		"a type of 10 KiB":             `{"kind":"` + strings.Repeat("a", 10<<10) + `"}`,
		"a type of a million brackets": `{"kind":` + strings.Repeat("[", 1_000_000),
		"a form":                       "kind=order.paid&id=1",
		"XML with entities":            `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`,
		"YAML":                         "kind: &a [*a, *a]",
		"pickled":                      "\x80\x04\x95cos\nsystem\n",
	}
}

func takenBodies() map[string]string {
	return map[string]string{
		"a text of 10 MB":             `{"kind":"a","x":"` + strings.Repeat("x", 10<<20) + `"}`,
		"a text of escapes":           `{"kind":"a","x":"` + strings.Repeat(`\u0000`, 100_000) + `"}`,
		"a hundred thousand members":  `{"kind":"a","x":[` + strings.Repeat(`{"a":1},`, 100_000) + `{}]}`,
		"numbers beyond all bounds":   `{"kind":"a","n":1e999999999,"m":-1e-999999999,"l":` + strings.Repeat("9", 100_000) + `}`,
		"deep, but not too deep":      `{"kind":"a","x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"an escaped NUL":              `{"kind":"a\u0000b","x":"\u0000"}`,
		"a prototype":                 `{"kind":"a","__proto__":{"x":1},"constructor":{"prototype":{}}}`,
		"a type of a subject":         `{"kind":"*.>.$JS.API.STREAM.PURGE.TERCEL_RAW"}`,
		"a type of a header":          `{"kind":"a\r\nNats-Rollup: all\r\n\r\n"}`,
		"a type of 1,000 dots":        `{"kind":"` + strings.Repeat(".", 1000) + `"}`,
		"names in every writing":      `{"kind":"a","Kind":"b","KIND":"c"}`,
		"white space by the megabyte": `{"kind":"a"` + strings.Repeat(" ", 2<<20) + `}`,
	}
}

// encodedBodies are compressed, or of another type.
func encodedBodies(w *world) map[string]attack {
	bomb, layers := zipped(strings.Repeat("\x00", 200<<20)), goodBody
	for range 20 {
		layers = zipped(layers)
	}
	var deflated bytes.Buffer
	z := zlib.NewWriter(&deflated)
	_, _ = z.Write([]byte(goodBody))
	_ = z.Close()
	encoded := func(source, body string, encodings ...string) string {
		return w.signed(source, unstored, body).with("Content-Encoding", encodings...).String()
	}
	typed := func(types ...string) string {
		return w.signed("bad", unstored, goodBody).with("Content-Type", types...).String()
	}
	return map[string]attack{
		"gzip to who takes none":     {send: encoded("bad", zipped(goodBody), "gzip"), want: "415"},
		"gzip, a bomb":               {send: encoded("roomy", bomb, "gzip"), want: "413"},
		"gzip, a forged bomb":        {send: w.signed("roomy", unstored, bomb).with("Content-Encoding", "gzip").with("X-Signature", "00").String(), want: "401"},
		"gzip in gzip":               {send: encoded("roomy", layers, "gzip"), want: "400"},
		"gzip, not at all":           {send: encoded("roomy", goodBody, "gzip"), want: "400"},
		"gzip, cut":                  {send: encoded("roomy", zipped(goodBody)[:25], "gzip"), want: "400"},
		"gzip, damaged":              {send: encoded("roomy", strings.Repeat("\x1f\x8b\x08\x00", 1000), "gzip"), want: "400"},
		"gzip, something behind":     {send: encoded("roomy", zipped(goodBody)+"x", "gzip"), want: "400"},
		"gzip, two members":          {send: encoded("roomy", zipped(`{"kind":`)+zipped(`"a"}`), "gzip"), want: "400"},
		"gzip twice":                 {send: encoded("roomy", zipped(zipped(goodBody)), "gzip, gzip"), want: "415"},
		"gzip in two headers":        {send: encoded("roomy", zipped(goodBody), "gzip", "gzip"), want: "415"},
		"deflate":                    {send: encoded("roomy", deflated.String(), "deflate"), want: "415"},
		"br":                         {send: encoded("roomy", goodBody, "br"), want: "415"},
		"zstd":                       {send: encoded("roomy", goodBody, "zstd"), want: "415"},
		"an encoding of 10 KiB":      {send: encoded("roomy", goodBody, strings.Repeat("a", 10<<10)), want: "415"},
		"too large":                  {send: w.signed("roomy", unstored, `{"kind":"`+strings.Repeat("a", 13<<20)+`"}`).String(), want: "413|end"},
		"text":                       {send: typed("text/plain"), want: "415"},
		"no type":                    {send: typed(), want: "415"},
		"two types":                  {send: typed("application/json", "text/plain"), want: "415"},
		"a malformed type":           {send: typed("application/json; ;;="), want: "415"},
		"a type of 10 KiB, in bytes": {send: typed("application/" + strings.Repeat("a", 10<<10)), want: "415"},
		"UTF-16 as a charset":        {send: typed("application/json; charset=utf-16"), want: "415"},
		"UTF-7 as a charset":         {send: typed("application/json; charset=utf-7"), want: "415"},
		"a charset twice":            {send: typed("application/json; charset=utf-8; charset=utf-7"), want: "415"},
		"a form":                     {send: w.signed("roomy", unstored, "kind=a&kind=b&"+strings.Repeat("a=b&", 100_000)).with("Content-Type", "application/x-www-form-urlencoded").String(), want: "4xx"},
		"a form of several parts": {send: w.signed("roomy", unstored, "--a\r\nContent-Disposition: form-data; name=\"kind\"; filename=\"../../etc/passwd\"\r\n\r\n"+
			strings.Repeat("--a\r\n\r\n", 10_000)).with("Content-Type", "multipart/form-data; boundary=a").String(), want: "4xx"},
		"a form without a boundary": {send: w.signed("roomy", unstored, "--\r\n").with("Content-Type", "multipart/form-data").String(), want: "4xx"},
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}
