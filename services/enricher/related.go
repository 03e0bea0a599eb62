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
	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// link is one related record.
type link struct {
	done      chan struct{} // closed when the rest is set
	value     jsontext.Value
	truncated bool
	fetch     event.Fetch
	err       error
}

// errUnasked is of a related record that wasn't asked for because another one, to
// which its request refers, failed.
var errUnasked = errors.New("not asked for")

// complete gets what belongs to the record in body, puts each of it where it is
// to stand, and returns how it was got. The scope has the record.
func (s *source) complete(ctx context.Context, res provider.Resource, account string, scope field.Scope, body *event.Body) (event.Fetches, error) {
	names := slices.Sorted(maps.Keys(res.Related))
	links, err := s.related(ctx, res, account, scope)
	if err != nil {
		return nil, err
	}
	var how event.Fetches
	record := res.Select.In(body.Record)
	body.Related = make(map[string]jsontext.Value, len(names))
	for _, name := range names {
		l := links[name]
		if l.fetch.Name = name; l.fetch.Status > 0 { // else nobody was asked
			how = append(how, l.fetch)
		}
		if l.truncated {
			body.Truncated = append(body.Truncated, name)
		}
		var merged bool
		if record, merged = res.Related[name].Merge.Into(record, l.value); !merged {
			body.Related[name] = l.value
		}
	}
	body.Record = record
	return how, nil
}

// related gets a record's related records side by side, and those that refer to
// others after these; the client bounds how many requests are in flight.
func (s *source) related(ctx context.Context, res provider.Resource, account string, scope field.Scope) (map[string]*link, error) {
	links := make(map[string]*link, len(res.Related))
	for name := range res.Related {
		links[name] = &link{done: make(chan struct{})}
	}
	var wg sync.WaitGroup
	for name, l := range links {
		wg.Go(func() {
			defer close(l.done)
			scope, err := withNeeds(scope, links, res.Needs(name)) // of which there is no cycle
			if err != nil {
				l.err = err
				return
			}
			if err = s.relatedOne(ctx, l, res.Related[name], account, scope); err != nil {
				l.err = fmt.Errorf("related %s: %w", name, err)
			}
		})
	}
	wg.Wait()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if err := links[name].err; err != nil && !errors.Is(err, errUnasked) {
			errs = append(errs, err)
		}
	}
	return links, combine(errs)
}

// withNeeds waits for the related records that a request refers to, and returns
// the scope with them.
func withNeeds(scope field.Scope, links map[string]*link, needs []string) (field.Scope, error) {
	if len(needs) == 0 {
		return scope, nil
	}
	doc := []byte{'{'}
	for i, need := range needs {
		l := links[need]
		<-l.done
		if l.err != nil {
			return field.Scope{}, errUnasked
		}
		if i > 0 {
			doc = append(doc, ',')
		}
		doc, _ = jsontext.AppendQuote(doc, need)
		doc = append(doc, ':')
		if l.value == nil {
			doc = append(doc, "null"...)
		}
		doc = append(doc, l.value...)
	}
	scope.Docs = maps.Clone(scope.Docs)
	scope.Docs["related"] = append(doc, '}')
	return scope, nil
}

// relatedOne sets a link's value to nil, which is written as null, for an optional
// record that is not there.
func (s *source) relatedOne(ctx context.Context, l *link, rel provider.Related, account string, scope field.Scope) error {
	var ask provider.Ask
	var err error
	if rel.List != nil {
		ask.Path, err = rel.List.Path.Fill(scope)
	} else {
		ask, err = rel.Get.Ask(scope)
	}
	if err != nil {
		if rel.Optional && errors.Is(err, field.ErrMissing) {
			return nil
		}
		return fmt.Errorf("path: %w", err) // the record may have the reference at the next attempt
	}
	r := request(ask, account)
	r.MaxAge = rel.Cache
	if rel.List != nil {
		err = s.list(ctx, l, *rel.List, r)
	} else {
		var ans sourceapi.Answer
		ans, err = s.api.Do(ctx, r)
		l.value, l.fetch = ans.Body, fetched("", ans)
	}
	if rel.Optional && errors.Is(err, sourceapi.ErrNotFound) {
		l.value, err = nil, nil
	}
	return err
}

// maxListPages bounds the pages of one related list: some APIs have empty ones.
const maxListPages = 200

// list gets the pages of a related list, and sets the link's value to the array of
// its records up to the most that are to be taken, and to the size that one answer
// of the API may have (promise 10).
func (s *source) list(ctx context.Context, out *link, l provider.List, r sourceapi.Request) error {
	all := jsontext.Value{'['}
	end := func(truncated bool) error {
		out.value, out.truncated = append(all, ']'), truncated
		return nil
	}
	seen, position, positions := 0, "", map[string]bool{}
	for n := 1; ; n++ {
		page, how, err := s.page(ctx, l, r, position)
		how.Tries, how.Took = how.Tries+out.fetch.Tries, how.Took+out.fetch.Took
		if out.fetch = how; err != nil {
			return err
		}
		for _, item := range page.Records {
			if seen == l.Max || len(all)+len(item) >= int(s.cfg.API.MaxBody) {
				return end(true)
			}
			if seen++; seen > 1 {
				all = append(all, ',')
			}
			all = append(all, item...)
		}
		switch position = page.Next; {
		case position == "":
			return end(false)
		case n == maxListPages:
			return end(true)
		case positions[position]:
			return errors.New("next page: one that was listed already")
		}
		positions[position] = true
	}
}

// page gets the page at position of a list whose first one r asks for.
func (s *source) page(ctx context.Context, l provider.List, r sourceapi.Request, position string) (provider.Page, event.Fetch, error) {
	ask, err := l.Request(r.Path, position)
	if err != nil {
		return provider.Page{}, event.Fetch{}, err
	}
	r.Path, r.Query = ask.Path, ask.Query
	ans, err := s.api.Do(ctx, r)
	how := fetched("", ans)
	if err != nil {
		return provider.Page{}, how, err
	}
	page, err := l.Page(ask, s.cfg.API.Base, ans.Header, ans.Body)
	if err != nil { // not wrapped: what one answer lacks the next may have
		return provider.Page{}, how, fmt.Errorf("answer: %v", err)
	}
	return page, how, nil
}
