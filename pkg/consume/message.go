package consume

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// message is a message of a stream that [Loop.pull] got, with the answers that
// the server takes.
type message struct {
	msg  *nats.Msg
	conn *nats.Conn
	of   *generation

	mu       sync.Mutex // guards answered, and the order of what is sent
	answered bool
}

func (m *message) ack() error { return m.answer("+ACK") }

func (m *message) terminate(reason string) error { return m.answer("+TERM " + reason) }

func (m *message) delay(d time.Duration) error {
	return m.answer(fmt.Sprintf(`-NAK {"delay": %d}`, d.Nanoseconds()))
}

func (m *message) answer(how string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered = true
	if m.of.over.Load() { // nobody waits for it, or for that of another message
		return nil
	}
	return m.conn.Publish(m.msg.Reply, []byte(how))
}

// beat tells the server that the message is being worked on. Behind its answer
// nothing is told: the server would forget a delay, and begin its ack wait.
func (m *message) beat() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answered || m.of.over.Load() {
		return nil
	}
	return m.conn.Publish(m.msg.Reply, []byte("+WPI"))
}

// size is what a message takes, near to how the server counts it.
func (m *message) size() int {
	n := len(m.msg.Subject) + len(m.msg.Reply) + len(m.msg.Data)
	for name, values := range m.msg.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}
