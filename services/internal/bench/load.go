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
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const secret = "whsec_a secret of the benchmark"

// outcome is what one turn of load came to.
type outcome struct {
	events    int // answered 200
	firsts    int // of them not repeats
	crowded   int // answered 429 or 503
	refused   int // answered anything else, or not at all
	duration  time.Duration
	latencies []time.Duration // of an offered load, sorted
}

// load is a way of loading an address.
type load func(ctx context.Context, addr string) (outcome, error)

// closed is a load over n connections, each of which waits for its answer
// before it sends the next request, until the time is over. Who is told to come
// later comes at once.
func closed(n int, length time.Duration) load {
	return func(ctx context.Context, addr string) (outcome, error) {
		began := time.Now()
		return overConnections(ctx, addr, n, func(s *sender, o *outcome) bool {
			if time.Since(began) >= length {
				return false
			}
			return s.turn(o)
		})
	}
}

// offered is a load of so many requests a second at random times that don't
// depend on the answers. A latency is counted from the moment the request was
// due if no connection was free by then, or else from when it was sent: what
// the sender's timer is late by is not the receiver's.
func offered(rate float64, n int, length time.Duration) load {
	return func(ctx context.Context, addr string) (outcome, error) {
		var mu sync.Mutex
		began := time.Now()
		next := began
		return overConnections(ctx, addr, n, func(s *sender, o *outcome) bool {
			mu.Lock()
			next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
			due := next
			mu.Unlock()
			if due.Sub(began) >= length {
				return false
			}
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
				due = time.Now()
			}
			more := s.turn(o)
			o.latencies = append(o.latencies, time.Since(due))
			return more
		})
	}
}

// overConnections opens n connections and has turn called on each until it
// returns false.
func overConnections(ctx context.Context, addr string, n int, turn func(*sender, *outcome) bool) (outcome, error) {
	senders := make([]*sender, n)
	for i := range senders {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return outcome{}, err
		}
		defer func() { _ = c.Close() }()
		senders[i] = newSender(c)
	}
	began, parts := time.Now(), make([]outcome, n)
	var wg sync.WaitGroup
	for i, s := range senders {
		wg.Go(func() {
			for ctx.Err() == nil && turn(s, &parts[i]) {
			}
		})
	}
	wg.Wait()
	all := outcome{duration: time.Since(began)}
	for _, o := range parts {
		all.events, all.firsts = all.events+o.events, all.firsts+o.firsts
		all.crowded, all.refused = all.crowded+o.crowded, all.refused+o.refused
		all.latencies = append(all.latencies, o.latencies...)
	}
	slices.Sort(all.latencies)
	return all, ctx.Err()
}

// repeats is the share of requests that are sent again, in percent.
const repeats = 2

// turn sends one request and counts its answer. It returns false when the
// connection can't be used any more.
func (s *sender) turn(o *outcome) bool {
	repeat := s.stored && s.rand.IntN(100) < repeats
	code, err := s.send(repeat)
	s.stored = err == nil && code == http.StatusOK
	switch {
	case s.stored && repeat:
		o.events++
	case s.stored:
		o.events++
		o.firsts++
	case err == nil && (code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable):
		o.crowded++
	default:
		o.refused++
		return false
	}
	return true
}

// sender sends one request after the other on a connection.
type sender struct {
	conn   net.Conn
	in     *bufio.Reader
	rand   *rand.Rand
	out    bytes.Buffer // the last request
	stored bool         // it was answered 200
	body   bytes.Buffer
	hub    bool
	count  int
	id     uint64
}

func newSender(c net.Conn) *sender {
	return &sender{conn: c, in: bufio.NewReader(c), rand: rand.New(rand.NewPCG(rand.Uint64(), 1)), id: rand.Uint64()}
}

// send sends a new request, or the last one again, and returns its status.
func (s *sender) send(again bool) (int, error) {
	if !again {
		s.next()
	}
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
