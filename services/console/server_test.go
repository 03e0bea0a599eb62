package console_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Promise 10: connections that ask once and say nothing more keep no operator out,
// however many there are. A stream that is followed meanwhile goes on, though it is the
// oldest of all and of the same address.
func TestSilentConnectionsKeepNoOperatorOut(t *testing.T) {
	t.Parallel()
	p := setupPipe(setup(t))
	tail, err := p.events.TailEvents(t.Context(), connect.NewRequest(&adminv1.TailEventsRequest{Stream: adminv1.TailStream_TAIL_STREAM_RAW}))
	if err != nil || !tail.Receive() {
		t.Fatal(err, tail.Err())
	}
	const more = 600 // than there may be
	var first net.Conn
	for i := range more {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if first == nil {
			first = c
		}
		if _, err := io.WriteString(c, "GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK || resp.Close {
			t.Fatalf("connection %d: %v, %v", i, resp, err)
		}
	}
	if _, err := io.Copy(io.Discard, first); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the first of them is still open")
	}
	p.store(trigger("evt-1", "order.paid"), `{}`)
	for tail.Receive() && tail.Msg().GetMessage() == nil { // signs of life
	}
	if got := tail.Msg().GetMessage().GetAttributes().GetId(); got != "evt-1" {
		t.Errorf("the stream has %q, %v, want evt-1", got, tail.Err())
	}
	if a := p.post(operatorToken, "PipelineService/GetPipelineStatus", `{}`); a.status != http.StatusOK {
		t.Errorf("an operator was answered %d %s", a.status, a.text)
	}
}
