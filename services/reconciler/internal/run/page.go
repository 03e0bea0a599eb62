package run

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
)

// page is one page of a list.
type page struct {
	records     [][]byte
	next        string // the position of the next page, or "" after the last
	requestedAt time.Time
}

// fetch asks for the page at the window's position.
func (r *Runner) fetch(ctx context.Context, w cursor.Window) (page, error) {
	answer, err := r.deps.API.Do(ctx, sourceapi.Request{Path: r.path, Query: r.query(w), Account: r.cfg.Key.Account})
	if err != nil {
		return page{}, err
	}
	p := page{requestedAt: answer.RequestedAt}
	if p.records, err = r.list.Records(answer.Body); err != nil {
		return page{}, fault.Permanent(fmt.Errorf("no records under items: %w", err))
	}
	switch {
	case r.list.Next.Cursor != "":
		if p.next, err = r.list.Next.CursorIn(answer.Body); err != nil {
			return page{}, fault.Permanent(err)
		}
	case r.list.Next.Offset != "" && len(p.records) > 0:
		p.next = strconv.Itoa(offset(w) + len(p.records) - overlap(len(p.records)))
	}
	return p, nil
}

func (r *Runner) query(w cursor.Window) url.Values {
	q := url.Values{}
	for name, value := range r.list.Query {
		q.Set(name, value)
	}
	if r.list.Limit.Param != "" {
		q.Set(r.list.Limit.Param, strconv.Itoa(r.list.Limit.Size))
	}
	if r.list.Since.Param != "" && !w.From.IsZero() {
		q.Set(r.list.Since.Param, since(r.list.Since.Format, w.From))
	}
	switch {
	case w.Position == "":
	case r.list.Next.Cursor != "":
		q.Set(r.list.Next.Param, w.Position)
	case r.list.Next.Offset != "":
		q.Set(r.list.Next.Offset, strconv.Itoa(offset(w)))
	}
	return q
}

// offset is the window's position as a number of records. A position of
// another kind, left by an older configuration, begins the list again.
func offset(w cursor.Window) int {
	n, err := strconv.Atoi(w.Position)
	if err != nil {
		return 0
	}
	return n
}

// since writes t for an API. What its format can't hold is cut off, so that
// the list begins earlier, not later.
func since(format provider.TimeFormat, t time.Time) string {
	switch format {
	case provider.UnixSeconds:
		return strconv.FormatInt(t.Unix(), 10)
	case provider.UnixMillis:
		return strconv.FormatInt(t.UnixMilli(), 10)
	default:
		return t.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
}
