package publish_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/publish"
)

// answering returns a publisher and the subject of a responder, which does with
// each message what answer says.
func answering(t *testing.T, cfg publish.Config, answer func(*nats.Msg)) (*natstest.Server, *publish.Publisher, string) {
	t.Helper()
	s := natstest.Start(t, false)
	nc := s.Connect()
	if _, err := nc.Subscribe("elsewhere", answer); err != nil {
		t.Fatal(err)
	}
	p, err := publish.New(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return s, p, "elsewhere"
}

func to(subject string) *nats.Msg {
	m := message("id")
	m.Subject = subject
	return m
}

// Promise 1: nothing is a success but the acknowledgement of a stored message.
func TestOnlyAnAcknowledgementIsASuccess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer string
		want   publish.Ack // the zero value for an error
	}{
		"stored":                  {`{"stream":"S","seq":17}`, publish.Ack{Sequence: 17}},
		"stored in a domain":      {`{"stream":"S","domain":"D","seq":17}`, publish.Ack{Sequence: 17}},
		"repeat":                  {`{"stream":"S","seq":17,"duplicate": true}`, publish.Ack{Sequence: 17, Duplicate: true}},
		"in another order":        {`{"seq":17,"stream":"S"}`, publish.Ack{Sequence: 17}},
		"largest sequence":        {`{"stream":"S","seq":18446744073709551615}`, publish.Ack{Sequence: 1<<64 - 1}},
		"refused":                 {`{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"S","seq":0}`, publish.Ack{}},
		"refused with a sequence": {`{"stream":"S","error":{"code":400,"err_code":10071,"description":"no"},"seq":9}`, publish.Ack{}},
		"no sequence":             {`{"stream":"S"}`, publish.Ack{}},
		"sequence zero":           {`{"stream":"S","seq":0}`, publish.Ack{}},
		"sequence below zero":     {`{"stream":"S","seq":-1}`, publish.Ack{}},
		"sequence with a point":   {`{"stream":"S","seq":1.5}`, publish.Ack{}},
		"sequence too large":      {`{"stream":"S","seq":18446744073709551616}`, publish.Ack{}},
		"a text":                  {`{"stream":"S","seq":"17"}`, publish.Ack{}},
		"cut":                     {`{"stream":"S","seq":17`, publish.Ack{}},
		"not JSON":                {`+OK`, publish.Ack{}},
		"empty":                   {``, publish.Ack{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, subject := answering(t, publish.Config{}, func(m *nats.Msg) { _ = m.Respond([]byte(tt.answer)) })
			ack, err := p.Publish(t.Context(), to(subject))
			if ack != tt.want || (err == nil) != (tt.want != publish.Ack{}) {
				t.Errorf("Publish() answered %s = %+v, %v, want %+v", tt.answer, ack, err, tt.want)
			}
		})
	}
}

// An answer that comes late is nobody else's.
func TestLateAnswersReachNobody(t *testing.T) {
	t.Parallel()
	late := make(chan *nats.Msg, 1)
	_, p, subject := answering(t, publish.Config{Timeout: 100 * time.Millisecond}, func(m *nats.Msg) {
		select {
		case late <- m:
		default:
			first := <-late
			_ = first.Respond([]byte(`{"stream":"S","seq":1}`))
			_ = m.Respond([]byte(`{"stream":"S","seq":2}`))
		}
	})
	if _, err := p.Publish(t.Context(), to(subject)); !errors.Is(err, publish.ErrUnavailable) {
		t.Fatalf("Publish() without an answer = %v, want ErrUnavailable", err)
	}
	if ack, err := p.Publish(t.Context(), to(subject)); err != nil || ack.Sequence != 2 {
		t.Errorf("Publish() = %+v, %v, want its own answer", ack, err)
	}
}

// Promise 1: a second answer to the message before, which only a server that
// wrongly thinks itself the leader would give, is not taken for the next one's.
func TestSecondAnswersReachNobody(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{
		"stored":           `{"stream":"S","seq":5}`,
		"stored before":    `{"stream":"S","seq":4}`,
		"repeat":           `{"stream":"S","seq":5,"duplicate":true}`,
		"repeat of others": `{"stream":"S","seq":6,"duplicate":true}`,
		"refused":          `{"stream":"S","error":{"code":400,"err_code":10071,"description":"no"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var replies []string // written by the responder, one message after the other
			_, p, subject := answering(t, publish.Config{}, func(m *nats.Msg) {
				replies = append(replies, m.Reply)
				answer := []string{`{"stream":"S","seq":5}`, second, `{"stream":"S","seq":7}`, `{"stream":"S","seq":8}`}[len(replies)-1]
				_ = m.Respond([]byte(answer))
			})
			for _, want := range []uint64{5, 7, 8} {
				if ack, err := p.Publish(t.Context(), to(subject)); ack != (publish.Ack{Sequence: want}) || err != nil {
					t.Errorf("Publish() = %+v, %v, want its own answer, %d", ack, err, want)
				}
			}
			if len(replies) != 4 || replies[1] != replies[0] || replies[2] == replies[1] || replies[3] != replies[2] {
				t.Errorf("answers were wanted under %q, want the first twice, then another twice", replies)
			}
		})
	}
}

// Promise 1: a batch is stored if its own acknowledgement says so, of all its
// messages. Otherwise each is published until it has an answer of its own.
func TestOnlyItsOwnAcknowledgementCommitsABatch(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"of one message":    `{"stream":"S","seq":90}`,
		"of another batch":  `{"stream":"S","seq":90,"batch":"another","count":N}`,
		"of a part":         `{"stream":"S","seq":90,"batch":"ID","count":1}`,
		"of no place":       `{"stream":"S","batch":"ID","count":N}`,
		"of too few places": `{"stream":"S","seq":1,"batch":"ID","count":N}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 40
			commits, sequence := 0, 1000 // the responder's
			held := make(chan *nats.Msg, 1)
			_, p, subject := answering(t, publish.Config{Group: true, MinBatch: 2, Queue: n}, func(m *nats.Msg) {
				switch h := m.Header; {
				case strings.HasPrefix(h.Get(jetstream.MsgIDHeader), "held"):
					held <- m
				case h.Get("Nats-Batch-Commit") != "":
					commits++
					own := strings.NewReplacer("ID", h.Get("Nats-Batch-Id"), "N", h.Get("Nats-Batch-Sequence"))
					_ = m.Respond([]byte(own.Replace(answer)))
				case h.Get("Nats-Batch-Id") != "":
				case h.Get(jetstream.ExpectedLastMsgIDHeader) != "": // a question that stores nothing
					_ = m.Respond([]byte(`{"stream":"S","error":{"code":400,"err_code":10070,"description":"no"}}`))
				default:
					sequence++
					_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":%d}`, sequence))
				}
			})
			var wg sync.WaitGroup
			full := make(chan struct{})
			send := func(id string) {
				m := message(id)
				m.Subject = subject
				ack, err := p.Publish(context.WithoutCancel(t.Context()), m)
				switch {
				case errors.Is(err, publish.ErrBusy):
					close(full)
				case err != nil || ack.Sequence < 1000:
					t.Errorf("Publish(%s) = %+v, %v, want its own answer", id, ack, err)
				}
			}
			wg.Go(func() { send("held, goes alone") })
			alone := <-held
			wg.Go(func() { send("held, is committed") })
			committed := <-held
			for i := range n + 1 {
				wg.Go(func() { send(fmt.Sprint("id ", i)) })
			}
			<-full // so the others wait, for a batch
			_ = alone.Respond([]byte(`{"stream":"S","seq":1000}`))
			_ = committed.Respond([]byte(`{"stream":"S","seq":1000}`))
			wg.Wait()
			if commits == 0 {
				t.Error("no batch was published")
			}
		})
	}
}

// A connection that is lost takes the answers along: who waits is told at once.
func TestLostConnectionEndsTheWait(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{}, 1)
			cfg.Timeout = time.Hour
			s, p, subject := answering(t, cfg, func(*nats.Msg) { arrived <- struct{}{} })
			done := make(chan error, 1)
			go func() {
				_, err := p.Publish(context.WithoutCancel(t.Context()), to(subject))
				done <- err
			}()
			<-arrived
			s.Stop()
			select {
			case err := <-done:
				if !errors.Is(err, publish.ErrUnavailable) || !errors.Is(err, nats.ErrDisconnected) {
					t.Errorf("Publish() = %v, want ErrUnavailable for the connection", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("Publish() still waits for an answer that can't come")
			}
		})
	}
}

func TestNobodyServesTheStream(t *testing.T) {
	t.Parallel()
	_, p, _ := answering(t, publish.Config{}, func(*nats.Msg) {})
	_, err := p.Publish(t.Context(), to("nowhere"))
	if !errors.Is(err, publish.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("Publish() = %v, want ErrUnavailable since there is no stream", err)
	}
}

// Promise 10: no more wait for answers than may.
func TestFullQueueIsBusy(t *testing.T) {
	t.Parallel()
	arrived := make(chan *nats.Msg, 2)
	_, p, subject := answering(t, publish.Config{Queue: 2}, func(m *nats.Msg) { arrived <- m })
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := p.Publish(context.WithoutCancel(t.Context()), to(subject))
			done <- err
		}()
	}
	waiting := []*nats.Msg{<-arrived, <-arrived}
	if _, err := p.Publish(t.Context(), to(subject)); !errors.Is(err, publish.ErrBusy) {
		t.Errorf("Publish() with a full queue = %v, want ErrBusy", err)
	}
	for i, m := range waiting {
		_ = m.Respond(fmt.Appendf(nil, `{"stream":"S","seq":%d}`, i+1))
		if err := <-done; err != nil {
			t.Errorf("Publish() = %v", err)
		}
	}
}

// Closed while a message waits, the publisher still hears of it.
func TestCloseLeavesNobodyWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	arrived := make(chan *nats.Msg, 1)
	_, p, subject := answering(t, publish.Config{}, func(m *nats.Msg) { arrived <- m })
	done := make(chan error, 1)
	go func() {
		_, err := p.Publish(context.WithoutCancel(t.Context()), to(subject))
		done <- err
	}()
	m := <-arrived
	p.Close()
	_ = m.Respond([]byte(`{"stream":"S","seq":1}`))
	if err := <-done; err != nil {
		t.Errorf("Publish() = %v", err)
	}
	if _, err := p.Publish(t.Context(), to(subject)); !errors.Is(err, publish.ErrClosed) {
		t.Errorf("Publish() after Close = %v, want ErrClosed", err)
	}
}

// closing is a context that closes a publisher when it is first looked at.
type closing struct {
	context.Context
	p *publish.Publisher
}

func (c closing) Err() error {
	c.p.Close()
	return nil
}

// A message that comes at the moment of Close is not sent: nobody would hear its
// answer any more.
func TestCloseTurnsAwayWhatComesAtThatMoment(t *testing.T) {
	t.Parallel()
	for name, cfg := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, subject := answering(t, cfg, func(*nats.Msg) {})
			done := make(chan error, 1)
			go func() {
				_, err := p.Publish(closing{context.WithoutCancel(t.Context()), p}, to(subject))
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, publish.ErrClosed) {
					t.Errorf("Publish() = %v, want ErrClosed", err)
				}
			case <-time.After(time.Minute):
				t.Error("Publish() still waits a minute after Close")
			}
		})
	}
}

// Who has given up while it was queued is not stored behind its back.
func TestAbandonedInTheQueueIsNotPublished(t *testing.T) {
	t.Parallel()
	arrived := make(chan *nats.Msg, 4)
	_, p, subject := answering(t, publish.Config{Group: true}, func(m *nats.Msg) { arrived <- m })
	done := make(chan error, 2)
	var busy []*nats.Msg
	for _, id := range []string{"alone", "committing"} {
		go func() {
			m := message(id)
			m.Subject = subject
			_, err := p.Publish(context.WithoutCancel(t.Context()), m)
			done <- err
		}()
		busy = append(busy, <-arrived)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := p.Publish(impatient, to(subject)); !errors.Is(err, publish.ErrUnavailable) {
		t.Errorf("Publish() = %v, want ErrUnavailable", err)
	}
	for _, m := range busy {
		_ = m.Respond([]byte(`{"stream":"S","seq":1}`))
		if err := <-done; err != nil {
			t.Errorf("Publish() = %v", err)
		}
	}
	go func() { _ = (<-arrived).Respond([]byte(`{"stream":"S","seq":2}`)) }()
	last := message("last")
	last.Subject = subject
	if _, err := p.Publish(t.Context(), last); err != nil {
		t.Errorf("Publish() = %v, want no other to have come before it", err)
	}
	select {
	case m := <-arrived:
		t.Errorf("%s was published as well", m.Header.Get("Nats-Msg-Id"))
	default:
	}
}
