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
	"sync"
	"sync/atomic"
	"time"
)

const secret = "whsec_a secret of the benchmark"

// outcome is what one turn of load came to.
type outcome struct {
	events   int // answered 200
	firsts   int // of them not repeats
	refused  int // answered anything else, or not at all
	duration time.Duration
}

// load sends requests over n connections, each waiting for its answer before
// the next, until the time is over.
func load(ctx context.Context, addr string, n int, length time.Duration) (outcome, error) {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return outcome{}, err
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	var events, firsts, refused atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			s := newSender(c)
			for time.Since(began) < length && ctx.Err() == nil {
				repeat := s.sent && s.rand.IntN(100) < 2
				code, err := s.send(repeat)
				switch {
				case err != nil || code != 200:
					refused.Add(1)
					return
				case !repeat:
					firsts.Add(1)
				}
				events.Add(1)
			}
		})
	}
	wg.Wait()
	return outcome{int(events.Load()), int(firsts.Load()), int(refused.Load()), time.Since(began)}, ctx.Err()
}

// sender sends one request after the other on a connection.
type sender struct {
	conn  net.Conn
	in    *bufio.Reader
	rand  *rand.Rand
	sent  bool
	out   bytes.Buffer // the last request
	body  bytes.Buffer
	hub   bool
	count int
	id    uint64
}

func newSender(c net.Conn) *sender {
	return &sender{conn: c, in: bufio.NewReader(c), rand: rand.New(rand.NewPCG(rand.Uint64(), 1)), id: rand.Uint64()}
}

// send sends a new request, or the last one again, and returns its status.
func (s *sender) send(again bool) (int, error) {
	if !again {
		s.next()
	}
	s.sent = true
	_ = s.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := s.conn.Write(s.out.Bytes()); err != nil {
		return 0, err
	}
	return readStatus(s.in)
}

// next makes a request, of the two providers in turn: one has its id in the
// body and signs a timestamp, the other has it in a header and signs the body.
func (s *sender) next() {
	s.count++
	s.hub = !s.hub
	id := fmt.Sprintf("evt_%x_%d", s.id, s.count)
	s.writeBody(id)
	mac := hmac.New(sha256.New, []byte(secret))
	path, header := "/v1/stripe", ""
	if s.hub {
		mac.Write(s.body.Bytes())
		path = "/v1/hub"
		header = "X-GitHub-Event: issues\r\nX-GitHub-Delivery: " + id + "\r\nX-Hub-Signature-256: sha256=" + hex.EncodeToString(mac.Sum(nil))
	} else {
		t := strconv.FormatInt(time.Now().Unix(), 10)
		mac.Write([]byte(t + "."))
		mac.Write(s.body.Bytes())
		header = "Stripe-Signature: t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	s.out.Reset()
	fmt.Fprintf(&s.out, "POST %s HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\nX-Id: %s\r\n%s\r\nContent-Length: %d\r\n\r\n",
		path, id, header, s.body.Len())
	s.out.Write(s.body.Bytes())
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
