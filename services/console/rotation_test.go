package console_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
)

// tokenIn is a token whose text is in a file.
func tokenIn(t testing.TB, path string, role pipeline.Role) pipeline.Token {
	t.Helper()
	text, err := json.Marshal(map[string]string{"role": string(role), "token": "file:" + path})
	if err != nil {
		t.Fatal(err)
	}
	var token pipeline.Token
	if err := config.Decode("token", text, &token); err != nil {
		t.Fatal(err)
	}
	return token
}

// Streams that were begun with a token end when another one takes its place,
// over the API and on a page; those of others and of the new one go on.
func TestStreamsEndWithTheirToken(t *testing.T) {
	t.Parallel()
	const first, second = "the first token of enough length", "the second token of enough length"
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, first)
	f := setup(t, func(c *consoleConfig, _ *consoleDeps) { c.Tokens["rotated"] = tokenIn(t, path, pipeline.Viewer) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := h2c(t)
	tail := func(token string) *connect.ServerStreamForClient[adminv1.TailEventsResponse] {
		t.Helper()
		events := adminv1connect.NewEventServiceClient(client, f.url, adminClientOptions(token)...)
		s, err := events.TailEvents(ctx, connect.NewRequest(&adminv1.TailEventsRequest{Stream: adminv1.TailStream_TAIL_STREAM_RAW}))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Receive() {
			t.Fatal(s.Err())
		}
		return s
	}
	old, others := tail(first), tail(viewerToken)
	r := f.reader()
	r.signIn(first)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/events/tail/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = page.Body.Close() }()

	write(t, path, second)
	for old.Receive() {
	}
	if connect.CodeOf(old.Err()) != connect.CodeUnauthenticated || reasonOf(old.Err()) != adminv1.Reason_REASON_UNAUTHENTICATED {
		t.Errorf("the old token's tail ended with %v, want CodeUnauthenticated", old.Err())
	}
	rows, err := io.ReadAll(page.Body)
	if err != nil || !strings.HasSuffix(string(rows), "event: over\ndata: another token has taken the place of this one\n\n") {
		t.Errorf("the page's tail ended with %q, %v; want to be told why", rows, err)
	}
	if p := r.get("/events/tail"); !strings.HasPrefix(p.path, "/sign-in?next=") {
		t.Errorf("with the old token the browser is at %s", p.path)
	}
	anew := tail(second)
	f.store(trigger("evt-1", "order.paid"), `{}`)
	for who, s := range map[string]*connect.ServerStreamForClient[adminv1.TailEventsResponse]{"another's": others, "the new token's": anew} {
		for s.Receive() && s.Msg().GetMessage() == nil { // a sign of life
		}
		if s.Msg().GetMessage().GetAttributes().GetId() != "evt-1" {
			t.Errorf("%s tail has %v, %v; want the event", who, s.Msg(), s.Err())
		}
		_ = s.Close()
	}
}
