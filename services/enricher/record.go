package enricher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// enrich gets one record with what belongs to it and publishes the event, or
// a tombstone when the source no longer has the record.
func (s *source) enrich(ctx context.Context, res provider.Resource, t trigger, ev event.Event, msgID string) error {
	scope := t.scope(ev.RecordID, nil)
	path, err := res.Get.Fill(scope)
	if err != nil {
		return fault.Permanent(fmt.Errorf("path: %w", err))
	}
	ans, err := s.api.Do(ctx, sourceapi.Request{Path: path, Account: t.Account, Gather: res.Coalesce})
	// The record was so when the request began, or later: never claim that it
	// was seen later than it may have been.
	ev.ObservedAt = ans.RequestedAt
	body := event.Body{Trigger: t.value}
	switch {
	case errors.Is(err, sourceapi.ErrNotFound):
		ev.Deleted, body.Deleted = true, true
		return s.publish(ctx, ev, msgID, body)
	case err != nil:
		return err
	}
	if body.Record, err = recordIn(res, ev.RecordID, ans.Body); err != nil {
		return err
	}
	if ev.Version, err = res.VersionOf(body.Record); err != nil {
		return fault.Permanent(fmt.Errorf("version: %w", err))
	}
	scope.Docs["record"] = body.Record
	if body.Related, err = s.related(ctx, res, t.Account, scope); err != nil {
		return err
	}
	return s.publish(ctx, ev, msgID, body)
}

// recordIn returns the record in an answer. An answer about another record, or
// without one, is a cache's or a proxy's mistake: it may pass.
func recordIn(res provider.Resource, id string, answer []byte) ([]byte, error) {
	record, err := res.Extract(answer)
	if err != nil {
		return nil, fmt.Errorf("record in the answer: %w", err)
	}
	own, err := res.RecordID.In(record)
	if err != nil {
		return nil, fmt.Errorf("id in the answer: %w", err)
	}
	if own != id {
		return nil, errors.New("answer is about another record")
	}
	return record, nil
}

// related gets a record's related records side by side; the client bounds how
// many requests are in flight.
func (s *source) related(
	ctx context.Context, res provider.Resource, account string, scope field.Scope,
) (map[string]jsontext.Value, error) {
	names := slices.Sorted(maps.Keys(res.Related))
	values, errs := make([]jsontext.Value, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			values[i], errs[i] = s.relatedOne(ctx, res.Related[name], account, scope)
			if errs[i] != nil {
				errs[i] = fmt.Errorf("related %s: %w", name, errs[i])
			}
		})
	}
	wg.Wait()
	if err := combine(errs); err != nil {
		return nil, err
	}
	all := make(map[string]jsontext.Value, len(names))
	for i, name := range names {
		all[name] = values[i]
	}
	return all, nil
}

// relatedOne returns nil, which is written as null, for an optional record
// that is not there.
func (s *source) relatedOne(ctx context.Context, rel provider.Related, account string, scope field.Scope) (jsontext.Value, error) {
	path, err := rel.Get.Fill(scope)
	if err != nil {
		if rel.Optional && errors.Is(err, field.ErrMissing) {
			return nil, nil
		}
		return nil, fmt.Errorf("path: %w", err) // the record may have the reference at the next attempt
	}
	ans, err := s.api.Do(ctx, sourceapi.Request{Path: path, Account: account, MaxAge: rel.Cache})
	if rel.Optional && errors.Is(err, sourceapi.ErrNotFound) {
		return nil, nil
	}
	return ans.Body, err
}
