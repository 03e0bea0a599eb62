package hostile_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// attack is what a stranger sends over a connection, and what has to come of it.
type attack struct {
	send string // byte for byte
	// want are the answers in their order: a status, 2xx or 4xx, or end for an end of
	// the connection without one; alternatives with |. No other answer may come.
	want string
	// stored is how many events it may leave.
	stored int
	// hangUp closes the connection once all is sent, and waits for nothing.
	hangUp bool
}

// unstored begins the ids and the types of all that has to be refused: it may be
// nowhere in the streams.
const unstored = "zz-refused"

// answerTime bounds one attack.
const answerTime = time.Minute

// try sends an attack and returns what is wrong with the answers.
func (a attack) try(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(answerTime))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c, a.send) // a server may have heard enough
	}()
	if a.hangUp {
		<-sent
		return nil
	}
	defer func() { _ = c.Close(); <-sent }()
	method, _, _ := strings.Cut(a.send, " ")
	in := bufio.NewReader(c)
	for want := range strings.FieldsSeq(a.want) {
		got, closes, err := answer(in, method)
		if err != nil {
			return fmt.Errorf("want %s: %w", want, err)
		}
		if err := accept(want, got); err != nil {
			return err
		}
		if got == 0 {
			return nil
		}
		if closes {
			if rest, _ := io.ReadAll(in); len(rest) > 0 {
				return fmt.Errorf("after the last answer came %.60q", rest)
			}
		}
	}
	return nil
}

// answer reads an answer's status, or 0 where the connection ends instead.
func answer(in *bufio.Reader, method string) (status int, closes bool, err error) {
	for {
		r, err := http.ReadResponse(in, &http.Request{Method: method})
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return 0, false, errors.New("no answer came")
		case err != nil && in.Buffered() > 0:
			return 0, false, fmt.Errorf("no HTTP: %w", err)
		case err != nil:
			return 0, true, nil
		}
		_, err = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode == http.StatusContinue {
			continue
		}
		return r.StatusCode, r.Close || err != nil, nil
	}
}

// accept holds a status against what is wanted.
func accept(want string, got int) error {
	text := strconv.Itoa(got)
	if got == 0 {
		text = "end"
	}
	for one := range strings.SplitSeq(want, "|") {
		if one == text || len(one) == 3 && strings.HasSuffix(one, "xx") && one[0] == text[0] {
			return nil
		}
	}
	return fmt.Errorf("answered %s, want %s", text, want)
}

// request is one that is put together byte for byte.
type request struct {
	line   string // POST /v1/bad HTTP/1.1
	header http.Header
	body   string
	length string // instead of the body's; "-" for none
}

// String is the request on the wire, each header in a line of its own.
func (r request) String() string {
	var b strings.Builder
	b.WriteString(r.line + "\r\n")
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		for _, value := range r.header[name] {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	switch r.length {
	case "-":
	case "":
		b.WriteString("Content-Length: " + strconv.Itoa(len(r.body)) + "\r\n")
	default:
		b.WriteString("Content-Length: " + r.length + "\r\n")
	}
	return b.String() + "\r\n" + r.body
}

// with returns the request with one header set, or removed where it has no values.
func (r request) with(name string, values ...string) request {
	r.header = maps.Clone(r.header)
	if r.header[name] = values; len(values) == 0 {
		delete(r.header, name)
	}
	return r
}

// signed returns a genuine request to a source of the pipeline file, signed now.
func (w *world) signed(source, id, body string) request {
	w.t.Helper()
	r := request{line: "POST /v1/" + source + " HTTP/1.1", body: body, header: http.Header{
		"Host": {"hooks.example.com"}, "Content-Type": {"application/json"}, "X-Delivery": {id},
	}}
	src := w.source(source)
	h := src.Verifier().SignRequest(src.Keys()[0], signature.Request{
		Header: r.header, Body: []byte(r.body), Method: http.MethodPost, URL: src.CalledURL("_", ""),
	}, id, time.Now())
	if h == nil {
		w.t.Fatalf("%s can't be signed", r.line)
	}
	maps.Copy(r.header, h)
	return r
}

// source is an entry of the pipeline file.
func (w *world) source(name string) *provider.Source {
	w.t.Helper()
	src, ok := w.file.Sources[name]
	if !ok {
		w.t.Fatalf("no source %s", name)
	}
	return &src
}
