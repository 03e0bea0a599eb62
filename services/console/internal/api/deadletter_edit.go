package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tercelhq/tercel/pkg/deadletter"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Bounds of edits.
const (
	maxPatch       = 1 << 20
	maxChanges     = 200
	maxChangeBytes = 1 << 10
	maxDiscard     = 10_000
)

// EditDeadLetter puts an edit beside a letter, or shows what it would make.
func (s deadLetters) EditDeadLetter(ctx context.Context, req *connect.Request[adminv1.EditDeadLetterRequest]) (*connect.Response[adminv1.EditDeadLetterResponse], error) {
	if req.Msg.GetSequence() == 0 {
		return nil, invalid("sequence", "the sequence of a letter")
	}
	if len(req.Msg.GetPatch()) > maxPatch {
		return nil, invalid("patch", "a JSON Patch of at most 1 MiB")
	}
	patch := []byte(req.Msg.GetPatch())
	if !req.Msg.GetDryRun() {
		if _, err := deadletter.Edit(ctx, s.js, req.Msg.GetSequence(), patch); err != nil {
			return nil, err
		}
	}
	l, err := deadletter.Get(ctx, s.js, req.Msg.GetSequence())
	if err != nil {
		return nil, err
	}
	edit, err := l.Apply(patch)
	if err != nil {
		return nil, err
	}
	edit = edit.Redacted(l, s.cfg.Redact)
	resp := &adminv1.EditDeadLetterResponse{
		DeadLetter: letter(l.Redacted(s.cfg.Redact)), Payload: head(edit.Before, defaultPayload), EditedPayload: head(edit.After, defaultPayload),
	}
	resp.Changes, resp.Truncated = changes(edit.Before, edit.After)
	return connect.NewResponse(resp), nil
}

// changes are the values that differ between two JSON texts.
func changes(before, after []byte) (all []*adminv1.PayloadChange, truncated bool) {
	a, okA := decoded(before)
	b, okB := decoded(after)
	if !okA || !okB { // an edit makes JSON of JSON
		return nil, false
	}
	d := &difference{}
	d.compare("", a, b, true, true)
	return d.all, d.more
}

func decoded(text []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // no digit may be lost
	return v, d.Decode(&v) == nil
}

// difference gathers what differs between two values.
type difference struct {
	all  []*adminv1.PayloadChange
	more bool
}

// compare goes down where both sides have the same kind of value. A side that
// isn't there has nothing at the path.
func (d *difference) compare(path string, a, b any, inA, inB bool) {
	if len(d.all) == maxChanges {
		d.more = d.more || !inA || !inB || !reflect.DeepEqual(a, b)
		return
	}
	mapA, isMapA := a.(map[string]any)
	mapB, isMapB := b.(map[string]any)
	listA, isListA := a.([]any)
	listB, isListB := b.([]any)
	switch {
	case isMapA && isMapB:
		names := map[string]bool{}
		for _, m := range []map[string]any{mapA, mapB} {
			for name := range m {
				names[name] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			va, inA := mapA[name]
			vb, inB := mapB[name]
			d.compare(path+"/"+pointer.Replace(name), va, vb, inA, inB)
		}
	case isListA && isListB:
		for i := range max(len(listA), len(listB)) {
			var va, vb any
			if i < len(listA) {
				va = listA[i]
			}
			if i < len(listB) {
				vb = listB[i]
			}
			d.compare(path+"/"+strconv.Itoa(i), va, vb, i < len(listA), i < len(listB))
		}
	case !inA || !inB || !reflect.DeepEqual(a, b):
		d.all = append(d.all, &adminv1.PayloadChange{Path: path, Before: valueText(a, inA), After: valueText(b, inB)})
	}
}

// pointer escapes a name in a JSON Pointer.
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

func valueText(v any, in bool) string {
	if !in {
		return ""
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil { // it came from JSON
		return ""
	}
	return shortened(strings.TrimSuffix(text.String(), "\n"), maxChangeBytes)
}

// DiscardDeadLetters marks letters as dealt with.
func (s deadLetters) DiscardDeadLetters(ctx context.Context, req *connect.Request[adminv1.DiscardDeadLettersRequest]) (*connect.Response[adminv1.DiscardDeadLettersResponse], error) {
	f, err := letterFilter(req.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	expected := int(req.Msg.GetExpected())
	switch {
	case proto.Size(req.Msg.GetFilter()) == 0:
		return nil, invalid("filter", "at least one field, so that not everything is discarded by accident")
	case expected == 0 || expected > maxDiscard:
		return nil, invalid("expected", "how many letters these are, 1 to 10,000")
	}
	if len(f.States) == 0 {
		f.States = []deadletter.State{deadletter.StateOpen}
	}
	f.Limit = expected + 1
	var chosen []uint64
	for l, err := range deadletter.List(ctx, s.js, f) {
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, l.Sequence)
	}
	if len(chosen) > expected {
		return nil, fail(connect.CodeFailedPrecondition, adminv1.Reason_REASON_TOO_MANY, "the filter chooses more than %d letters; nothing was discarded", expected)
	}
	resp := &adminv1.DiscardDeadLettersResponse{}
	for _, seq := range chosen {
		if err := deadletter.Discard(ctx, s.js, seq, deadletter.Discarded{At: s.deps.Now().UTC(), Reason: req.Msg.GetReason()}); err != nil {
			return nil, fmt.Errorf("%d of %d were discarded: %w", resp.GetDiscarded(), len(chosen), err)
		}
		resp.Discarded++
	}
	return connect.NewResponse(resp), nil
}
