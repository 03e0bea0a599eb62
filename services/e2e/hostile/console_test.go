package hostile_test

import (
	"net/url"
	"strings"
	"testing"
)

// What strangers send to the console is refused, with a login and without, and
// changes nothing.
func TestHostileConsoleRequests(t *testing.T) {
	slow(t)
	w := start(t, part{sources: badSource, services: []string{"ingress", "console"}})
	w.withstand(w.console, func() map[string]attack {
		all := strangers()
		for name, a := range operators() {
			all[name] = a
		}
		return all
	})
}

const admin = "/tercel.admin.v1."

// call is a call of the admin API; more has further lines of the header.
func call(method, token, typ, body, more string) string {
	r := request{line: "POST " + admin + method + " HTTP/1.1", body: body, header: map[string][]string{"Host": {"127.0.0.1"}, "Content-Type": {typ}}}
	if token != "" {
		r = r.with("Authorization", "Bearer "+token)
	}
	return strings.Replace(r.String(), "Host:", more+"Host:", 1)
}

// guess is how a wrong token is answered: the eleventh of a minute isn't looked at.
const guess = "401|429"

// strangers have no token.
func strangers() map[string]attack {
	const list, typ = "EventService/ListEvents", "application/json"
	discard := `{"reason":"` + unstored + `","expected":1,"filter":{"source":"shop"}}`
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" }
	all := map[string]attack{
		"no token":                    {send: call(list, "", typ, "{}", ""), want: "401"},
		"a guessed token":             {send: call(list, "the operator's token, long enougH", typ, "{}", ""), want: guess},
		"a cut token":                 {send: call(list, consoleToken[:len(consoleToken)-1], typ, "{}", ""), want: guess},
		"a longer token":              {send: call(list, consoleToken+"a", typ, "{}", ""), want: guess},
		"a token of 20 KiB":           {send: call(list, strings.Repeat("a", 20<<10), typ, "{}", ""), want: guess},
		"a token with NUL":            {send: call(list, consoleToken+"\x00", typ, "{}", ""), want: "400"},
		"a token twice":               {send: call(list, "x", typ, "{}", "Authorization: Bearer "+"y"+"\r\n"), want: guess},
		"another scheme":              {send: call(list, "", typ, "{}", "Authorization: Basic "+consoleToken+"\r\n"), want: "401"},
		"a token in the query":        {send: strings.Replace(call(list, "", typ, "{}", ""), " HTTP", "?token="+url.QueryEscape(consoleToken)+" HTTP", 1), want: "401"},
		"a forged session":            {send: call(list, "", typ, "{}", "Cookie: session="+strings.Repeat("0", 64)+"\r\n"), want: "401"},
		"a forged address":            {send: call(list, "", typ, "{}", "X-Forwarded-For: 127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\n"), want: "401"},
		"another site's request":      {send: call("DeadLetterService/DiscardDeadLetters", "", typ, discard, "Origin: https://evil.example.com\r\nSec-Fetch-Site: cross-site\r\n"), want: "403"},
		"another site's form":         {send: call("DeadLetterService/DiscardDeadLetters", "", "text/plain", discard, "Origin: null\r\nSec-Fetch-Site: cross-site\r\n"), want: "403"},
		"a call by GET":               {send: get(admin + list + "?encoding=json&message=%7B%7D"), want: "401|405"},
		"a reflection":                {send: call("../grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", "application/grpc", "", ""), want: "4xx"},
		"a page":                      {send: get("/events"), want: "303|401"},
		"a page that goes up":         {send: get("/../../etc/passwd"), want: "303|4xx|301|307"},
		"a page that goes up, hidden": {send: get("/%2e%2e/%2e%2e/etc/passwd"), want: "303|4xx|301|307"},
		"an asset that goes up":       {send: get("/static/..%2f..%2fetc%2fpasswd"), want: "303|4xx|301|307"},
		"an asset with a backslash":   {send: get(`/static/..\..\secret`), want: "303|4xx"},
		"profiles":                    {send: get("/debug/pprof/"), want: "303|404|401"},
		"an absolute form":            {send: get("http://169.254.169.254/latest"), want: "303|4xx"},
		"CONNECT":                     {send: "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: a\r\n\r\n", want: "3xx|4xx"},
		"TRACE":                       {send: "TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + consoleToken + "\r\n\r\n", want: "4xx|3xx"},
		"a preflight":                 {send: "OPTIONS " + admin + list + " HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example.com\r\nAccess-Control-Request-Method: POST\r\n\r\n", want: "4xx"},
		"HTTP/2, broken":              {send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 1000), want: "end", hangUp: true},
		"HTTP/2, settings for ever":   {send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 5000), hangUp: true},
		"HTTP/2, pings for ever":      {send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh", 5000), hangUp: true},
		"CL and TE":                   {send: "POST " + admin + list + " HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "4xx"},
		"TE gzip":                     {send: "POST " + admin + list + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", want: "4xx"},
		"another version":             {send: "GET / HTTP/7.7\r\nHost: a\r\n\r\n", want: "4xx"},
		"headers of 1 MiB":            {send: "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", want: "431|end"},
		"a login of 10 MB":            {send: form("/login", "token="+strings.Repeat("a", 10<<20)), want: "4xx|end"},
		"a login of another site":     {send: strings.Replace(form("/login", "token="+consoleToken), "Host:", "Origin: https://evil.example.com\r\nSec-Fetch-Site: cross-site\r\nHost:", 1), want: "403"},
	}
	return all
}

func form(path, body string) string {
	return request{line: "POST " + path + " HTTP/1.1", body: body, header: map[string][]string{"Host": {"127.0.0.1"}, "Content-Type": {"application/x-www-form-urlencoded"}}}.String()
}

// operators have a token, and send what makes no sense.
func operators() map[string]attack {
	const typ, list, get = "application/json", "EventService/ListEvents", "EventService/GetEvent"
	bad := func(method, typ, body string) attack {
		return attack{send: call(method, consoleToken, typ, body, ""), want: "4xx|end"}
	}
	all := map[string]attack{
		"no content type":            bad(list, "", "{}"),
		"text":                       bad(list, "text/plain", "{}"),
		"a form":                     bad(list, "application/x-www-form-urlencoded", "a=b"),
		"XML":                        bad(list, "application/xml", "<a/>"),
		"another charset":            bad(list, "application/json; charset=utf-16", "{\x00}\x00"),
		"no JSON":                    bad(list, typ, "{"),
		"nothing":                    bad(list, typ, ""),
		"an array":                   bad(list, typ, "[]"),
		"deep JSON":                  bad(list, typ, strings.Repeat(`{"filter":`, 100_000)),
		"deep arrays":                bad(list, typ, `{"filter":{"status":`+strings.Repeat("[", 100_000)),
		"a JSON of 10 MB":            bad(list, typ, `{"pageToken":"`+strings.Repeat("a", 10<<20)+`"}`),
		"no UTF-8":                   bad(list, typ, "{\"pageToken\":\"\xff\"}"),
		"a number beyond all bounds": bad(list, typ, `{"pageSize":1e999}`),
		"a time beyond all bounds":   bad(list, typ, `{"filter":{"since":"-999999999-01-01T00:00:00Z"}}`),
		"a protobuf of noise":        bad(list, "application/proto", strings.Repeat("\xff", 1000)),
		"a protobuf that is cut":     bad(list, "application/proto", "\x0a\xff\xff\xff\xff\x07"),
		"a protobuf of 10 MB":        bad(list, "application/proto", strings.Repeat("\x0a\x00", 5<<20)),
		"a protobuf of deep groups":  bad(list, "application/proto", strings.Repeat("\x0b", 100_000)),
		"gzip, a bomb": {
			send: call(list, consoleToken, typ, zipped(`{"pageToken":"`+strings.Repeat("a", 100<<20)+`"}`), "Content-Encoding: gzip\r\n"),
			want: "4xx",
		},
		"gzip, not at all":       {send: call(list, consoleToken, typ, "{}", "Content-Encoding: gzip\r\n"), want: "4xx"},
		"another encoding":       {send: call(list, consoleToken, typ, "{}", "Content-Encoding: br\r\n"), want: "4xx"},
		"a timeout of text":      {send: call(list, consoleToken, typ, "{}", "Connect-Timeout-Ms: -1\r\n"), want: "4xx"},
		"a protocol of text":     {send: call(list, consoleToken, typ, "{}", "Connect-Protocol-Version: 99\r\n"), want: "4xx"},
		"no such method":         bad("EventService/DropEverything", typ, "{}"),
		"no such service":        bad("NoService/ListEvents", typ, "{}"),
		"a method with NUL":      bad("EventService/List%00Events", typ, "{}"),
		"a method that goes up":  bad("EventService/../../../etc/passwd", typ, "{}"),
		"an id of a path":        bad(get, typ, `{"id":"../../../../etc/passwd"}`),
		"an id of NATS":          bad(get, typ, `{"id":"*.>"}`),
		"an id with line breaks": bad(get, typ, `{"id":"a\r\nNats-Rollup: all"}`),
		"an id with NUL":         bad(get, typ, `{"id":"\u0000"}`),
		"an id of 100 KB":        bad(get, typ, `{"id":"`+strings.Repeat("a", 100_000)+`"}`),
		"a source of NATS":       bad("SourceService/PauseSource", typ, `{"reason":"a","source":"*.>"}`),
		"no such source":         bad("SourceService/PauseSource", typ, `{"reason":"a","source":"nobody"}`),
		"a letter of no number":  bad("DeadLetterService/GetDeadLetter", typ, `{"sequence":"18446744073709551615"}`),
		"a letter below zero":    bad("DeadLetterService/GetDeadLetter", typ, `{"sequence":"-1"}`),
		"a discard of all":       bad("DeadLetterService/DiscardDeadLetters", typ, `{"reason":"x","expected":1}`),
		"a page of noise":        bad(list, typ, `{"pageToken":"%00../../"}`),
		"a slow call":            {send: strings.Replace(call(list, consoleToken, typ, "{}", ""), "Content-Length: 2", "Content-Length: 20", 1), want: "4xx|end"},
	}
	return all
}
