// Package auditlog keeps what operators did in the stream TERCEL_AUDIT: who,
// when, from where, what, why, and how it ended.
//
// Each action has two messages. The first is stored before anything is done: an
// action that can't be recorded doesn't take place, and one that a crash broke
// off stays as begun. The second says how it ended. A record holds no payloads
// and no secrets; that is for whoever writes it.
package auditlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tercelhq/tercel/pkg/consume"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/lookback"
)

// Outcome is how an action ended.
type Outcome string

// The outcomes, a closed set.
const (
	Begun  Outcome = "begun"  // it is under way, or was broken off
	Done   Outcome = "done"   // it did what was asked
	Failed Outcome = "failed" // it did not, or only a part
)

// Record is one action.
type Record struct {
	// ID identifies the action. Begin makes it.
	ID string `json:"id"`
	// BegunAt is when it began, EndedAt when it ended.
	BegunAt time.Time `json:"begun_at"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Who did it, and from which address.
	Who     string `json:"who"`
	Address string `json:"address,omitzero"`
	// Method is what was asked for, and Request with which values, as JSON.
	Method  string `json:"method"`
	Request string `json:"request,omitzero"`
	// Reason is why, in the words of who did it.
	Reason string `json:"reason,omitzero"`
	// Outcome is how it ended, and Result what came of it.
	Outcome Outcome `json:"outcome"`
	Result  string  `json:"result,omitzero"`
}

// timeout bounds storing one message.
const timeout = 5 * time.Second

// Action is one that has begun.
type Action struct {
	js jetstream.JetStream
	Record
}

// Begin stores that an action begins. When it returns an error, don't act.
func Begin(ctx context.Context, js jetstream.JetStream, r Record) (*Action, error) {
	r.ID, r.BegunAt, r.Outcome = nuid.Next(), time.Now().UTC(), Begun
	if err := store(ctx, js, r); err != nil {
		return nil, fmt.Errorf("record the action: %w", err)
	}
	return &Action{js, r}, nil
}

// End stores how the action ended, also when ctx has. After an error the record
// stays as begun.
func (a *Action) End(ctx context.Context, o Outcome, result string) error {
	a.EndedAt, a.Outcome, a.Result = time.Now().UTC(), o, result
	if err := store(context.WithoutCancel(ctx), a.js, a.Record); err != nil {
		return fmt.Errorf("record the end of action %s: %w", a.ID, err)
	}
	return nil
}

func store(ctx context.Context, js jetstream.JetStream, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err = js.Publish(ctx, subject(r), data)
	return err
}

// subject keeps the two messages of an action apart and findable.
func subject(r Record) string {
	phase := "ended"
	if r.Outcome == Begun {
		phase = string(Begun)
	}
	return topology.PrefixAudit + "." + phase + "." + r.ID
}

// Query chooses records.
type Query struct {
	// Who and Method narrow the records; "" stands for all.
	Who, Method string
	// Since leaves out actions that began before it, if set.
	Since time.Time
	// Before is the Next of the page before, or 0.
	Before uint64
	// Limit is the most records listed.
	Limit int
}

// Page is a part of the records, the newest first.
type Page struct {
	Records []Record
	// Next is where the next page begins, or 0 at the end.
	Next uint64
}

// List returns one page. It may be short of the limit although there are more.
func List(ctx context.Context, js jetstream.JetStream, q Query) (Page, error) {
	var p Page
	var failed error
	next, err := lookback.Read(ctx, js, lookback.Options{
		Stream: topology.StreamAudit, Subjects: []string{topology.PrefixAudit + "." + string(Begun) + ".>"}, Before: q.Before, Since: q.Since,
	}, func(m consume.Message) bool {
		var r Record
		if json.Unmarshal(m.Data, &r) != nil || q.Who != "" && r.Who != q.Who || q.Method != "" && r.Method != q.Method {
			return true
		}
		if r, failed = ended(ctx, js, r); failed != nil {
			return false
		}
		p.Records = append(p.Records, r)
		return len(p.Records) < q.Limit
	})
	p.Next = next
	if err = errors.Join(err, failed); err != nil {
		return Page{}, fmt.Errorf("list audit records: %w", err)
	}
	return p, nil
}

// ended returns the record as it ended, or as it began.
func ended(ctx context.Context, js jetstream.JetStream, r Record) (Record, error) {
	if strings.ContainsAny(r.ID, ".*> ") || r.ID == "" {
		return r, nil // written by something else
	}
	stream, err := js.Stream(ctx, topology.StreamAudit)
	if err != nil {
		return r, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, topology.PrefixAudit+".ended."+r.ID)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("end of %s: %w", r.ID, err)
	}
	var end Record
	if json.Unmarshal(m.Data, &end) != nil {
		return r, nil
	}
	return end, nil
}
