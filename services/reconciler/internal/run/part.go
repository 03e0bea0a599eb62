package run

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/fault"
)

// A window is listed in parts: each state, where there are several, and in it
// one slice of time after the other. A part is read page by page.

// span is the time that is listed: the slice in hand, or the whole window.
func (r *Runner) span(w cursor.Window) cursor.Span {
	if r.list.Slice.Every == 0 {
		return cursor.Span{From: w.From, To: w.To}
	}
	if w.Slice == nil {
		return r.slice(w, w.From)
	}
	return *w.Slice
}

// slice is the one that begins at from.
func (r *Runner) slice(w cursor.Window, from time.Time) cursor.Span {
	if from.IsZero() { // a window of an older configuration
		from = time.Unix(0, 0).UTC()
	}
	s := cursor.Span{From: from, To: from.Add(r.list.Slice.Every)}
	if s.To.After(w.To) {
		s.To = w.To
	}
	return s
}

// nextPart moves a window to its next part, if there is one.
func (r *Runner) nextPart(w *cursor.Window) {
	span := r.span(*w)
	begin(w)
	if r.list.Slice.Every > 0 && span.To.Before(w.To) {
		s := r.slice(*w, span.To)
		w.Slice = &s
		return
	}
	w.Slice = nil
	if w.State++; w.State >= len(r.list.States.Values) {
		w.State, w.Done = 0, true
	}
}

// begin moves a window to the first page of its part.
func begin(w *cursor.Window) {
	w.Position, w.Before, w.Tail, w.Full, w.Steps, w.Met = "", "", nil, 0, 0, 0
}

// halve makes the slice in hand half as long, for an API that won't list it to
// its end.
func (r *Runner) halve(w *cursor.Window) error {
	s := r.span(*w)
	granule := max(r.list.Since.Format.Granule(), r.list.Until.Format.Granule())
	half := (s.To.Sub(s.From) / 2).Truncate(granule)
	if half < granule {
		return fault.Permanent(fmt.Errorf("more than %d records changed within %s from %s: the API lists no more (slice.most)",
			r.list.Slice.Most, s.To.Sub(s.From), s.From.UTC().Format(time.RFC3339)))
	}
	s.To = s.From.Add(half)
	begin(w)
	w.Slice = &s
	return nil
}

// circles reports whether a window's new position was met before in its part.
// It keeps one of those met, a later one each time that their number has doubled
// (Brent, 1980), so that a circle is found within three times its length, over
// any number of runs.
func circles(w *cursor.Window, last string) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(w.Position))
	if w.Position == last || w.Steps > 0 && h.Sum64() == w.Met {
		return true
	}
	if w.Steps++; w.Steps&(w.Steps-1) == 0 {
		w.Met = h.Sum64()
	}
	return false
}
