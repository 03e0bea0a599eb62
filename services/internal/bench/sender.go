package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

const secret = "whsec_a secret of the benchmark"

// target is a source, and how its provider signs.
type target struct {
	path string
	hub  bool // the body, with the id in a header; else a time and the body, which has the id
}

// providers are two targets of different kinds.
var providers = []target{{"/v1/hub", true}, {"/v1/stripe", false}}

// sender sends one request after the other on a connection.
type sender struct {
	conn    net.Conn
	in      *bufio.Reader
	targets []target
	rand    *rand.Rand
	out     bytes.Buffer // the last request
	stored  bool         // it was answered 200
	body    bytes.Buffer
	count   int
	id      uint64
}

// dial returns a sender to addr, whose connection the caller closes.
func dial(ctx context.Context, addr string, targets []target) (*sender, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return newSender(c, targets), nil
}

// newSender makes requests, of which without a connection only bodies are used.
func newSender(c net.Conn, targets []target) *sender {
	id := rand.Uint64()
	return &sender{conn: c, in: bufio.NewReader(c), targets: targets, rand: rand.New(rand.NewPCG(id, 1)), id: id, count: int(id % 1_000_003)}
}

// send sends the request that was made last, and returns its answer's status.
func (s *sender) send() (int, error) {
	_ = s.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := s.conn.Write(s.out.Bytes()); err != nil {
		return 0, err
	}
	return readStatus(s.in)
}

// next makes a request, whose id tells when it was due. A forged one is signed
// with a secret that isn't the source's.
func (s *sender) next(due time.Time, forged bool) {
	s.count++
	to := s.targets[s.count%len(s.targets)]
	id := dueID(due, fmt.Sprintf("%x_%d", s.id, s.count))
	s.writeBody(id)
	key := secret
	if forged {
		key = "whsec_a secret of somebody else"
	}
	mac := hmac.New(sha256.New, []byte(key))
	header := ""
	if to.hub {
		mac.Write(s.body.Bytes())
		header = "X-GitHub-Event: issues\r\nX-GitHub-Delivery: " + id + "\r\nX-Hub-Signature-256: sha256=" + hex.EncodeToString(mac.Sum(nil))
	} else {
		t := strconv.FormatInt(time.Now().Unix(), 10)
		mac.Write([]byte(t + "."))
		mac.Write(s.body.Bytes())
		header = "Stripe-Signature: t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	s.out.Reset()
	fmt.Fprintf(&s.out, "POST %s HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\nX-Id: %s\r\n%s\r\nContent-Length: %d\r\n\r\n",
		to.path, id, header, s.body.Len())
	s.out.Write(s.body.Bytes())
}

// dueID is an id that tells when its event was due.
func dueID(due time.Time, unique string) string {
	return fmt.Sprintf("evt_%x_%s", due.UnixNano(), unique)
}

// sinceDue is how long ago the event of an id was due.
func sinceDue(id string) (time.Duration, error) {
	now := time.Now()
	var nanos int64
	if _, err := fmt.Sscanf(id, "evt_%x_", &nanos); err != nil {
		return 0, fmt.Errorf("an event that nobody sent: %q", id)
	}
	return now.Sub(time.Unix(0, nanos)), nil
}

// writeBody makes a record of 1.5 to 3 KiB with lines of eight fields each, in
// the order of names that one of the providers has.
func (s *sender) writeBody(id string) {
	s.body.Reset()
	fmt.Fprintf(&s.body, `{"id":%q,"object":"event","action":"opened","created":%d,"data":{"lines":[`, id, time.Now().Unix())
	for size := 1400 + s.rand.IntN(1500); s.body.Len() < size; {
		fmt.Fprintf(&s.body, `{"id":"li_%x","object":"line","amount":%d,"currency":"eur","description":"one of the lines of an invoice",`+
			`"period":{"start":1760000000,"end":1762678400},"proration":false,"quantity":1},`, s.rand.Uint64(), s.rand.IntN(100_000))
	}
	s.body.WriteString(`null]},"livemode":true,"pending_webhooks":1,"type":"invoice.paid"}`)
}

// readStatus reads one answer, whose body has a length.
func readStatus(in *bufio.Reader) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, fmt.Errorf("answer %q: %w", line, err)
	}
	code, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, err
	}
	length := 0
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	_, err = in.Discard(length)
	return code, err
}
