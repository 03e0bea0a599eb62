package hostile_test

import (
	"strings"
	"testing"
)

// bad is the source that strangers attack; its sender is genuine where a test says
// so.
const badSource = `
  bad:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    request: {max_body: 1MiB}
`

const goodBody = `{"kind":"order.paid"}`

// What is no HTTP, or HTTP that two readers could take for different requests, is
// answered as a fault of the sender's and leaves nothing. (Promises 2 and 10.)
func TestMalformedHTTP(t *testing.T) {
	w := start(t, part{sources: badSource, services: []string{"ingress"}})
	w.withstand(w.ingress, func() map[string]attack { return malformed(w) })
}

func malformed(w *world) map[string]attack {
	good := w.signed("bad", unstored, goodBody)
	line := func(l string) string { r := good; r.line = l; return r.String() }
	header := func(name string, values ...string) string { return good.with(name, values...).String() }
	raw := func(old, text string) string { return strings.Replace(good.String(), old, text, 1) }
	chunked := func(body string) string {
		r := good.with("Transfer-Encoding", "chunked")
		r.length, r.body = "-", body
		return r.String()
	}
	hidden := good.String()
	return map[string]attack{
		"nothing and gone":          {send: "", hangUp: true},
		"not HTTP":                  {send: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500), want: "400"},
		"zeros":                     {send: strings.Repeat("\x00", 1<<16), want: "400|431|end"},
		"half a line and gone":      {send: "POST /v1/b", hangUp: true},
		"half a body and gone":      {send: hidden[:len(hidden)-5], hangUp: true},
		"HTTP/0.9":                  {send: "GET /v1/bad\r\n", want: "400"},
		"HTTP/2 preface":            {send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", want: "4xx|end"},
		"HTTP/9.9":                  {send: line("POST /v1/bad HTTP/9.9"), want: "4xx"},
		"HTTP/1.10":                 {send: line("POST /v1/bad HTTP/1.10"), want: "400"},
		"no version":                {send: line("POST /v1/bad"), want: "400"},
		"three spaces":              {send: line("POST   /v1/bad HTTP/1.1"), want: "400"},
		"method of 64 KiB":          {send: line(strings.Repeat("A", 64<<10) + " /v1/bad HTTP/1.1"), want: "4xx|end"},
		"method with NUL":           {send: line("PO\x00ST /v1/bad HTTP/1.1"), want: "400"},
		"TRACE":                     {send: line("TRACE /v1/bad HTTP/1.1"), want: "405"},
		"CONNECT":                   {send: "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n", want: "4xx"},
		"absolute form, elsewhere":  {send: line("GET http://169.254.169.254/latest/meta-data HTTP/1.1"), want: "404"},
		"OPTIONS *":                 {send: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", want: "404"},
		"HEAD":                      {send: line("HEAD /v1/bad HTTP/1.1"), want: "405"},
		"DELETE with a body":        {send: line("DELETE /v1/bad HTTP/1.1"), want: "405"},
		"path that goes up":         {send: line("POST /v1/x/../bad HTTP/1.1"), want: "404"},
		"path that goes up, hidden": {send: line("POST /v1/%2e%2e/v1/bad HTTP/1.1"), want: "404"},
		"path of slashes":           {send: line("POST //v1//bad HTTP/1.1"), want: "404"},
		"path with NUL":             {send: line("POST /v1/bad%00 HTTP/1.1"), want: "404"},
		"path with a raw NUL":       {send: line("POST /v1/bad\x00 HTTP/1.1"), want: "400"},
		"path with a broken escape": {send: line("POST /v1/bad%zz HTTP/1.1"), want: "400"},
		"path with CRLF":            {send: line("POST /v1/bad%0d%0aX-A:%20b HTTP/1.1"), want: "404"},
		"path of a backslash":       {send: line(`POST /v1\bad HTTP/1.1`), want: "404"},
		"path of 30 KiB":            {send: line("POST /v1/" + strings.Repeat("a", 30<<10) + " HTTP/1.1"), want: "404"},
		"path of NATS":              {send: line("POST /v1/%2a/%3e HTTP/1.1"), want: "404"},
		"path of an account":        {send: line("POST /v1/bad/$JS.API.STREAM.PURGE.TERCEL_RAW HTTP/1.1"), want: "404"},
		"metrics from outside":      {send: "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", want: "404"},
		"profiles from outside":     {send: "GET /debug/pprof/heap HTTP/1.1\r\nHost: a\r\n\r\n", want: "404"},
		"secret in the query":       {send: good.with("X-Signature").String()[len("POST /v1/bad"):], want: "400"},
		"query of 31 KiB":           {send: line("POST /v1/nobody?" + strings.Repeat("a=b&", 7900) + " HTTP/1.1"), want: "404"},
		"semicolons in the query":   {send: line("POST /v1/nobody?a;b;c HTTP/1.1"), want: "404"},

		"CL and TE":                 {send: "POST /v1/bad HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, want: "415"},
		"TE twice":                  {send: raw("Host:", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nHost:"), want: "4xx"},
		"TE identity, chunked":      {send: raw("Host:", "Transfer-Encoding: identity, chunked\r\nHost:"), want: "4xx"},
		"TE gzip":                   {send: raw("Host:", "Transfer-Encoding: gzip\r\nHost:"), want: "4xx"},
		"TE xchunked":               {send: raw("Host:", "Transfer-Encoding: xchunked\r\nHost:"), want: "4xx"},
		"TE with a tab":             {send: raw("Host:", "Transfer-Encoding:\tchunked\v\r\nHost:"), want: "4xx"},
		"TE on HTTP/1.0":            {send: strings.Replace(chunked("0\r\n\r\n"), "HTTP/1.1", "HTTP/1.0", 1), want: "4xx"},
		"two lengths":               {send: raw("Host:", "Content-Length: 0\r\nHost:"), want: "400"},
		"length list":               {send: raw("Content-Length: ", "Content-Length: 0, "), want: "400"},
		"length with a sign":        {send: raw("Content-Length: ", "Content-Length: +"), want: "400"},
		"length below zero":         {send: raw("Content-Length: ", "Content-Length: -"), want: "400"},
		"length in hex":             {send: raw("Content-Length: ", "Content-Length: 0x"), want: "400"},
		"length that overflows":     {send: raw("Content-Length: ", "Content-Length: 18446744073709551616"), want: "400"},
		"length of 8 EiB":           {send: raw("Content-Length: 21", "Content-Length: 9223372036854775807"), want: "413"},
		"length of a GiB":           {send: raw("Content-Length: 21", "Content-Length: 1073741824"), want: "413"},
		"length too short":          {send: raw("Content-Length: 21", "Content-Length: 2"), want: "401 400"},
		"no length":                 {send: raw("Content-Length: 21\r\n", ""), want: "4xx 4xx"},
		"chunk size no number":      {send: chunked("zz\r\n" + goodBody + "\r\n0\r\n\r\n"), want: "400"},
		"chunk size overflows":      {send: chunked("fffffffffffffffff\r\n" + goodBody + "\r\n0\r\n\r\n"), want: "400"},
		"chunk size below zero":     {send: chunked("-15\r\n" + goodBody + "\r\n0\r\n\r\n"), want: "400"},
		"chunk too short":           {send: chunked("5\r\n" + goodBody + "\r\n0\r\n\r\n"), want: "400"},
		"chunk extension of 64 KiB": {send: chunked("15;" + strings.Repeat("a", 64<<10) + "\r\n" + goodBody + "\r\n0\r\n\r\n"), want: "400"},
		"chunk extensions for ever": {send: chunked(strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\na\r\n", 300) + "0\r\n\r\n"), want: "400"},
		"chunks of one byte":        {send: chunked(strings.Repeat("1\r\na\r\n", 20_000) + "0\r\n\r\n"), want: "400|401"},
		"chunks beyond the limit":   {send: chunked(strings.Repeat("10000\r\n"+strings.Repeat("a", 0x10000)+"\r\n", 40)), want: "413|end"},
		"chunk with bare LF":        {send: chunked("15\n" + goodBody + "\n0\n\n"), want: "4xx"},
		"trailers, forbidden ones":  {send: chunked("2\r\n{}\r\n0\r\nX-Signature: a\r\nContent-Length: 5\r\nNats-Rollup: all\r\n\r\n"), want: "4xx"},
		"trailers of 64 KiB":        {send: chunked("2\r\n{}\r\n0\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n"), want: "4xx"},

		"bare LF":                  {send: strings.ReplaceAll(good.with("X-Signature").String(), "\r\n", "\n"), want: "401"},
		"bare CR":                  {send: strings.ReplaceAll(good.String(), "\r\n", "\r"), want: "400|end"},
		"bare CR in a value":       {send: header("X-A", "a\rb"), want: "400"},
		"folded header":            {send: header("X-Signature", "a\r\n b"), want: "401"},
		"folded first header":      {send: raw("\r\n", "\r\n folded: a\r\n"), want: "400"},
		"no header name":           {send: raw("Host:", ": a\r\nHost:"), want: "400"},
		"space in a name":          {send: raw("Host:", "X A: b\r\nHost:"), want: "400"},
		"space before the colon":   {send: raw("X-Signature:", "X-Signature :"), want: "400"},
		"NUL in a name":            {send: raw("Host:", "X\x00: b\r\nHost:"), want: "400"},
		"NUL in a value":           {send: header("X-A", "a\x00b"), want: "400"},
		"no colon":                 {send: raw("Host:", "nonsense\r\nHost:"), want: "400"},
		"no host":                  {send: good.with("Host").String(), want: "400"},
		"two hosts":                {send: header("Host", "a", "b"), want: "400"},
		"host with a path":         {send: header("Host", "a/../b"), want: "400"},
		"header of 1 MiB":          {send: header("X-A", strings.Repeat("a", 1<<20)), want: "431|end"},
		"header of 30 KiB, forged": {send: header("X-Signature", strings.Repeat("a", 30<<10)), want: "401"},
		"10,000 headers":           {send: raw("Host:", strings.Repeat("A: b\r\n", 10_000)+"Host:"), want: "431|end"},
		"2,000 headers, forged":    {send: raw("X-Signature: ", strings.Repeat("A: b\r\n", 2000)+"X-Signature: 0"), want: "401"},
		"name of 30 KiB":           {send: raw("X-Signature", strings.Repeat("a", 30<<10)), want: "401"},
		"headers of NATS, forged":  {send: good.with("Nats-Rollup", "all").with("Nats-Msg-Id", "a").with("X-Signature", "00").String(), want: "401"},
		"Expect: nonsense":         {send: header("Expect", "200-maybe"), want: "417"},
		"Expect, forged":           {send: good.with("Expect", "100-continue").with("X-Signature", "00").String(), want: "401"},
		"Expect, too large":        {send: raw("Content-Length: 21", "Expect: 100-continue\r\nContent-Length: 99999999"), want: "413"},
		"upgrade to a websocket":   {send: good.with("Connection", "Upgrade").with("Upgrade", "websocket").with("X-Signature", "00").String(), want: "401"},
		"upgrade to h2c":           {send: good.with("Connection", "Upgrade, HTTP2-Settings").with("Upgrade", "h2c").with("HTTP2-Settings", "AAMAAABk").with("X-Signature", "00").String(), want: "401"},
		"Connection names headers": {send: good.with("Connection", "X-Signature, close").with("X-Signature", "00").String(), want: "401"},
		"a thousand pipelined":     {send: strings.Repeat(line("GET /v1/bad HTTP/1.1"), 1000), want: strings.Repeat("405 ", 1000)},
		"pipelined and gone":       {send: strings.Repeat(line("GET /v1/bad HTTP/1.1"), 1000), hangUp: true},
		"hidden behind a chunked":  {send: chunked("0\r\n\r\n") + hidden, want: "4xx"},
		"slow headers":             {send: hidden[:40], want: "end|408"},
		"slow body":                {send: hidden[:len(hidden)-5], want: "408"},
		"slow chunks":              {send: chunked("15\r\n{"), want: "408"},
		"slow body of a forger":    {send: strings.TrimSuffix(good.with("X-Signature", "00").String(), "paid\"}"), want: "408|end"},
	}
}
