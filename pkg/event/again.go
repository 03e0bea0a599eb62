package event

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
)

// Again is a stored message as it is sent once more to its subject: as a replay, with
// a trace of that name of its own, and without the headers that the server would obey,
// such as Nats-Rollup, which empties a stream. The caller gives it a Nats-Msg-Id.
// Header and data stay as they are.
func Again(ctx context.Context, name, subject string, header nats.Header, data []byte) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = data
	for key, values := range header {
		if !strings.HasPrefix(strings.ToLower(key), "nats-") {
			m.Header[key] = values
		}
	}
	m.Header.Set(HeaderOrigin, string(Replay))
	BeginTrace(ctx, name, m.Header)
	return m
}
