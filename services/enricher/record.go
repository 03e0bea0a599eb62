package enricher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// job is one record that a trigger names.
type job struct {
	trigger
	res   provider.Resource
	event event.Event // what is to be published
	msgID string
	// believe says that what the source shows is taken, however old it is.
	believe bool
}

// enrich gets one record with what belongs to it and publishes the event, or
// a tombstone when the source no longer has the record.
func (s *source) enrich(ctx context.Context, j job) error {
	scope := j.scope(j.event.RecordID, nil)
	seen, err := s.look(ctx, j, scope)
	if err != nil {
		return err
	}
	// The record was so when the request began, or later: never claim that it
	// was seen later than it may have been.
	j.event.ObservedAt, j.event.Version = seen.at, seen.version
	body := event.Body{Trigger: j.value, Record: seen.record, Stale: seen.stale}
	if seen.record == nil {
		j.event.Deleted, body.Deleted = true, true
		j.event.ObservedAt = event.GoneAt(seen.at)
		j.event.Fetched = event.Fetches{seen.fetch}.String()
		return s.publish(ctx, j.event, j.msgID, body)
	}
	scope.Docs["record"] = seen.record
	related, err := s.complete(ctx, j.res, j.Account, scope, &body)
	if err != nil {
		return err
	}
	j.event.Fetched = append(event.Fetches{seen.fetch}, related...).String()
	return s.publish(ctx, j.event, j.msgID, body)
}

// fetched is how the answer to a call was got.
func fetched(name string, ans sourceapi.Answer) event.Fetch {
	f := event.Fetch{Name: name, Status: ans.Status, Tries: ans.Tries, From: ans.From}
	if ans.From != event.FromCache {
		f.Took = max(0, ans.ReceivedAt.Sub(ans.RequestedAt))
	}
	return f
}

// sight is what the source showed of a record.
type sight struct {
	record  []byte // nil if it is gone
	version event.Version
	at      time.Time
	stale   bool // it is older than the trigger said
	fetch   event.Fetch
}

// soon is when a record that is older than its trigger says is asked for again
// while the trigger is in hand. A source that shows its own change late mostly
// does so by less than a second. Later tries are further deliveries, and count
// as attempts, but whether they come to an end is not for the source to say: see
// [source.believes].
var soon = [...]time.Duration{250 * time.Millisecond, time.Second}

// errEarly is of a trigger that came before its change can be seen.
var errEarly = errors.New("the source shows an older record than the trigger speaks of")

// look asks for a record until it is no older than the trigger says.
func (s *source) look(ctx context.Context, j job, scope field.Scope) (sight, error) {
	expected, err := j.res.Expected(scope)
	if err != nil {
		return sight{}, fault.Permanent(err)
	}
	ask, err := j.res.Get.Ask(scope)
	if err != nil {
		return sight{}, fault.Permanent(fmt.Errorf("path: %w", err))
	}
	r := request(ask, j.Account)
	r.Gather = j.res.Coalesce
	tries := 0
	for _, wait := range soon {
		seen, err := s.lookOnce(ctx, j, r, expected)
		tries += seen.fetch.Tries
		seen.fetch.Tries = tries
		// What isn't there may be what isn't there yet. That it is gone is
		// believed after these tries.
		if err != nil || expected == "" || !seen.stale && seen.record != nil {
			return seen, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return sight{}, fmt.Errorf("%w: %w", errEarly, ctx.Err())
		}
		r.Gather = 0
	}
	seen, err := s.lookOnce(ctx, j, r, expected)
	seen.fetch.Tries += tries
	if err == nil && seen.stale && !j.believe {
		return sight{}, fault.RetryAfter(errEarly, laterMin<<min(j.attempt-1, 3))
	}
	return seen, err
}

// laterMin grows with the attempts at a trigger.
const laterMin = 5 * time.Second

// lookOnce asks for a record. The request begins after the call, so that no answer
// to an earlier one is taken for it.
func (s *source) lookOnce(ctx context.Context, j job, r sourceapi.Request, expected event.Version) (sight, error) {
	ans, err := s.api.Do(ctx, r)
	seen := sight{at: ans.ObservedAt, fetch: fetched("record", ans)}
	if errors.Is(err, sourceapi.ErrNotFound) {
		return seen, nil
	}
	if err != nil {
		return sight{}, err
	}
	if seen.record, err = j.res.Find(j.event.RecordID, ans.Body); err != nil || seen.record == nil {
		return seen, err
	}
	seen.version, err = j.res.VersionOf(provider.Sight{
		Record: seen.record, At: seen.at, Header: ans.Header, Event: j.Time,
	})
	if err != nil {
		return sight{}, fault.Permanent(fmt.Errorf("version: %w", err))
	}
	if seen.stale, err = provider.Behind(seen.version, expected); err != nil {
		return sight{}, fault.Permanent(err)
	}
	return seen, nil
}

// request is what to send for an ask.
func request(ask provider.Ask, account string) sourceapi.Request {
	r := sourceapi.Request{Path: ask.Path, Account: account}
	if ask.Body != nil {
		r.Method, r.Body, r.GraphQL = http.MethodPost, ask.Body, true
	}
	return r
}
