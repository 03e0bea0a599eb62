package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/ledger"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

const (
	// askedAtOnce is how many unlisted records are asked for before what was found
	// is saved.
	askedAtOnce = 64
	// askShare is how many such parts a scheduled scan asks for before other
	// resources of its source have their turn. They are more than pages, since
	// each turn begins with finding out again what is held.
	askShare = 16
	// maxUnclear is how many answers in a row may be no answers.
	maxUnclear = 8
)

// answer is what the source says to the question for one record: a record, that
// it is gone, or nothing clear.
type answer struct {
	at     time.Time
	record []byte
	gone   bool
	err    error
}

// ask asks for one record.
func (c *comparison) ask(ctx context.Context, id string) answer {
	s := scope(c.cfg.Key.Account)
	s.Values["id"] = id
	res := c.cfg.Resource
	ask, err := res.Get.Ask(s)
	if err != nil {
		return answer{err: fault.Permanent(err)}
	}
	r := sourceapi.Request{Path: ask.Path}
	if ask.Body != nil {
		r.Method, r.Body, r.GraphQL = http.MethodPost, ask.Body, true
	}
	shown, err := c.call(ctx, r)
	a := answer{at: shown.ObservedAt}
	if errors.Is(err, sourceapi.ErrNotFound) {
		a.gone = true
	} else if a.err = err; err == nil {
		a.record, a.err = res.Find(id, shown.Body)
		a.gone = a.err == nil && a.record == nil
	}
	if a.gone {
		a.at = event.GoneAt(a.at)
	}
	return a
}

// askAll asks for what was not listed, part by part, does what the answers call
// for, and reports whether that was all. What a turn before this one has done is
// passed over.
func (c *comparison) askAll(ctx context.Context, all []*unlisted) (over bool, err error) {
	all = slices.DeleteFunc(all, func(u *unlisted) bool { return c.w.Scan.Checked > 0 && u.hash <= c.w.Scan.Checked })
	unclear, parts := 0, 0
	for part := range slices.Chunk(all, askedAtOnce) {
		if parts == askShare && c.opts.Trigger == report.Schedule {
			return false, nil
		}
		parts++
		answers := make([]answer, len(part))
		var wg sync.WaitGroup
		for i, u := range part {
			if u.id != "" {
				wg.Go(func() { answers[i] = c.ask(ctx, u.id) })
			}
		}
		wg.Wait()
		for i, a := range answers {
			switch {
			case part[i].id == "" || fault.IsPermanent(a.err):
			case a.err == nil:
				unclear = 0
			default:
				if unclear++; unclear >= maxUnclear || ctx.Err() != nil || fault.IsPostponed(a.err) {
					return false, fmt.Errorf("get %s %s: %w", c.cfg.Key.Resource, part[i].id, a.err)
				}
			}
		}
		if err := c.take(ctx, part, answers); err != nil {
			return false, err
		}
	}
	return true, nil
}

// take deals with the answers of one part, and notes that it has.
func (c *comparison) take(ctx context.Context, part []*unlisted, answers []answer) error {
	next := c.w
	s := *c.w.Scan
	next.Scan = &s
	next.Records = next.Records[:len(next.Records):len(next.Records)]
	next.Destinations = maps.Clone(next.Destinations)
	f := found{tally: map[ledger.Verdict]int64{}}
	var gone []grave
	for i, u := range part {
		a := answers[i]
		switch {
		case a.gone:
			gone = append(gone, grave{u.id, a.at})
			c.orphaned(u, a.at, &next)
		case a.record != nil:
			rec, err := c.read(a.record, a.at)
			if err != nil {
				s.Found.Unchecked++
				continue
			}
			s.Found.Present++
			f.listed = append(f.listed, rec)
			if f.at.IsZero() || a.at.Before(f.at) {
				f.at = a.at // none of them was seen later
			}
		default:
			s.Found.Unchecked++
		}
	}
	if err := c.bury(ctx, gone, &s); err != nil {
		return err
	}
	if err := c.records(ctx, &f, &next); err != nil {
		return err
	}
	f.tally[report.Orphaned] = int64(len(gone))
	c.deps.Metrics.comparedAll(c.cfg.Key, f.tally)
	s.Checked = part[len(part)-1].hash
	c.w = next
	c.explainLater(ctx, f.open)
	return c.save(ctx, func(*cursor.Cursor) {})
}

// orphaned counts and names one that is gone.
func (c *comparison) orphaned(u *unlisted, at time.Time, next *cursor.Window) {
	next.Counts.Orphaned++
	rec := report.Record{ID: u.id, Version: string(u.version), Verdict: report.Orphaned, FirstSeen: at, Repaired: c.buries()}
	for _, name := range u.at {
		if next.Destinations == nil {
			next.Destinations = map[string]report.Destination{}
		}
		d := next.Destinations[name]
		d.Orphaned++
		next.Destinations[name] = d
	}
	if !u.inside {
		rec.Destination = strings.Join(u.at, ", ")
	}
	note(next, rec)
}

// grave is a record that is gone, and when the source said so.
type grave struct {
	id string
	at time.Time
}

// bury stores tombstones in TERCEL_RAW. One that was seen alive since then stays
// so wherever it gets (promise 7).
func (c *comparison) bury(ctx context.Context, gone []grave, s *cursor.Scan) error {
	if !c.buries() || len(gone) == 0 {
		return nil
	}
	if _, err := c.send(ctx, len(gone), func(i int) (string, *nats.Msg) {
		return gone[i].id, c.tombstone(ctx, gone[i])
	}); err != nil {
		return err
	}
	s.Found.Tombstones += len(gone)
	return nil
}

// tombstone is a trigger that says that a record is gone. Within a run it is
// always the same.
func (c *comparison) tombstone(ctx context.Context, g grave) *nats.Msg {
	e := c.event(record{id: g.id}, g.at)
	e.ID = "reconcile:" + e.Resource + ":" + g.id + ":deleted:" + c.id
	e.Deleted = true
	m := nats.NewMsg(e.RawSubject())
	m.Header = e.Header()
	m.Header.Set(jetstream.MsgIDHeader, e.MsgID()+":"+c.id)
	event.BeginTrace(ctx, "repair", m.Header)
	m.Data = []byte("null")
	return m
}
