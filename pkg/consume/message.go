package consume

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is a message of a stream that [Loop.pull] got, with the answers that
// the server takes.
type message struct {
	conn *nats.Conn
	msg  *nats.Msg
}

var _ jetstream.Msg = (*message)(nil)

func (m *message) Data() []byte         { return m.msg.Data }
func (m *message) Headers() nats.Header { return m.msg.Header }
func (m *message) Subject() string      { return m.msg.Subject }
func (m *message) Reply() string        { return m.msg.Reply }

// Metadata reads what the server says of the message in its reply subject.
func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	meta, err := m.msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair{Consumer: meta.Sequence.Consumer, Stream: meta.Sequence.Stream},
		NumDelivered: meta.NumDelivered, NumPending: meta.NumPending, Timestamp: meta.Timestamp,
		Stream: meta.Stream, Consumer: meta.Consumer, Domain: meta.Domain,
	}, nil
}

func (m *message) answer(how string) error { return m.conn.Publish(m.msg.Reply, []byte(how)) }

func (m *message) Ack() error        { return m.answer("+ACK") }
func (m *message) Nak() error        { return m.answer("-NAK") }
func (m *message) InProgress() error { return m.answer("+WPI") }
func (m *message) Term() error       { return m.answer("+TERM") }

func (m *message) TermWithReason(reason string) error { return m.answer("+TERM " + reason) }

func (m *message) NakWithDelay(delay time.Duration) error {
	return m.answer(fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

// DoubleAck acknowledges and waits until the server has taken note.
func (m *message) DoubleAck(ctx context.Context) error {
	_, err := m.conn.RequestWithContext(ctx, m.msg.Reply, []byte("+ACK"))
	return err
}
