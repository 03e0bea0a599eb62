package consume

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullWait is how long one pull waits for messages, and so how long stopping
// may take when there is nothing to do.
const pullWait = time.Second

// overtaken is how long a pull that is over waits for messages that the server
// has counted as handed out.
const overtaken = 5 * time.Second

// pull takes as many messages in hand as there is room for. It asks for no more:
// a message that waits in the client's own buffer gets no heartbeat, and the
// server would deliver it to somebody else. It is not broken off when the loop
// is told to stop: what the server is handing out at that moment would be lost
// on the way and come back only after its ack wait. Large says that the next
// message doesn't fit into the room that there was.
//
// The client's own Fetch ends with the server's word that a pull is over. In a
// cluster a message is handed out when its delivery is known to a majority, so
// that word overtakes the last messages, which would come to nobody.
func (l *Loop) pull(h *hand, of *generation, r room) (large bool, err error) {
	conn := l.deps.JetStream.Conn()
	answers := make(chan *nats.Msg, r.messages+16) // and a few words about them
	inbox := conn.NewInbox()
	sub, err := conn.ChanSubscribe(inbox, answers)
	if err != nil {
		return false, fmt.Errorf("pull from %s: %w", l.consumer.Durable, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only on a connection that is closed
	if err := l.ask(conn, inbox, r); err != nil {
		return false, fmt.Errorf("pull from %s: %w", l.consumer.Durable, err)
	}
	expected, end := r.messages, time.NewTimer(pullWait+overtaken)
	defer end.Stop()
	for came := 0; came < expected; {
		select {
		case m := <-answers:
			word, told := control(m)
			if !told {
				h.take(&message{msg: m, conn: conn, of: of})
				came++
				continue
			}
			switch {
			case word.over == nil: // a heartbeat, which wasn't asked for
				continue
			case !errors.Is(word.over, errEnough):
				return false, fmt.Errorf("pull from %s: %w", l.consumer.Durable, word.over)
			}
			large = large || word.large && word.left == r.messages
			expected = r.messages - word.left
			end.Reset(overtaken)
		case <-end.C:
			return false, nil // what is missing comes again after its ack wait
		}
	}
	return large, nil
}

// ask sends the request that is answered with messages to inbox.
func (l *Loop) ask(conn *nats.Conn, inbox string, r room) error {
	body, err := json.Marshal(struct {
		Expires  time.Duration `json:"expires"`
		Batch    int           `json:"batch"`
		MaxBytes int           `json:"max_bytes,omitempty"`
	}{pullWait, r.messages, r.bytes})
	if err != nil {
		return err
	}
	return conn.PublishRequest(jetstream.DefaultAPIPrefix+"CONSUMER.MSG.NEXT."+l.stream+"."+l.consumer.Durable, inbox, body)
}

// word is what the server says about a pull.
type word struct {
	// over is why the pull is over, errEnough if nothing is wrong, nil if it isn't.
	over error
	// left is how many of the messages asked for are not handed out.
	left int
	// large says that the next message has too many bytes.
	large bool
}

// errEnough ends a pull whose time is up, or that has all that it asked for.
var errEnough = errors.New("nothing more comes")

// control reads what the server says about a pull; told is false for a message of
// the stream.
func control(m *nats.Msg) (w word, told bool) {
	if m.Reply != "" { // where it is acknowledged
		return word{}, false
	}
	status := m.Header.Get("Status")
	about := m.Header.Get("Description")
	w.left, _ = strconv.Atoi(m.Header.Get("Nats-Pending-Messages")) // none is none
	switch {
	case status == "100":
		return word{}, true
	case status == "503":
		w.over = nats.ErrNoResponders
	case status == "408" || about == "Batch Completed":
		w.over = errEnough
	case status == "409" && strings.Contains(about, "Exceeds MaxBytes"):
		w.over, w.large = errEnough, true
	case about == "Consumer Deleted":
		w.over = jetstream.ErrConsumerDeleted
	default:
		w.over = errors.New("nats: " + strings.ToLower(about))
	}
	return w, true
}
