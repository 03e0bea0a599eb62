package deadletter

import (
	"context"
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/topology"
)

// Bounds of edits, in bytes: of a patch, which is kept in a bucket, and of what
// it makes, which is sent as one message.
const (
	maxPatchBytes  = 512 << 10
	maxEditedBytes = 4 << 20
)

// Edited is an edit of a letter's payload.
type Edited struct {
	// Patch is the JSON Patch (RFC 6902) that makes After of Before, which is the
	// payload as it was.
	Patch, Before, After []byte
}

// Edit keeps a JSON Patch (RFC 6902) beside a letter, whose result a replay
// sends instead of the payload. The payload itself stays, and each patch is
// applied to it, not to an earlier edit; an empty one takes the edit back. Errors
// that callers tell apart are [ErrNotFound], [ErrPayloadMissing] and [ErrPatch].
func Edit(ctx context.Context, js jetstream.JetStream, seq uint64, patch []byte) (Edited, error) {
	l, err := Get(ctx, js, seq)
	if err != nil {
		return Edited{}, err
	}
	e, err := l.Apply(patch)
	if err != nil {
		return e, err
	}
	fail := func(err error) (Edited, error) { return e, fmt.Errorf("edit dead letter %d: %w", seq, err) }
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	// The mark is there only while the patch is, so that no replay sends the
	// unedited payload for want of it.
	if len(patch) > 0 {
		if _, err := kv.Put(ctx, patchKey(seq), patch); err != nil {
			return fail(err)
		}
	}
	if err := change(ctx, kv, l, func(r *record) error { r.Edited = len(patch) > 0; return nil }); err != nil {
		return fail(err)
	}
	if len(patch) == 0 {
		if err := kv.Delete(ctx, patchKey(seq)); err != nil {
			return fail(err)
		}
	}
	return e, nil
}

// EditOf returns the edit that is kept beside a letter, or one without a patch.
func EditOf(ctx context.Context, js jetstream.JetStream, l Letter) (Edited, error) {
	patch, err := l.patch(ctx, js)
	if err != nil {
		return Edited{}, err
	}
	return l.Apply(patch)
}

// patch returns the patch that is kept beside a letter, or nil.
func (l Letter) patch(ctx context.Context, js jetstream.JetStream) ([]byte, error) {
	if !l.Edited {
		return nil, nil
	}
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("edit of dead letter %d: %w", l.Sequence, err) }
	kv, err := js.KeyValue(ctx, topology.BucketDeadLetters)
	if err != nil {
		return fail(err)
	}
	entry, err := kv.Get(ctx, patchKey(l.Sequence))
	if err != nil {
		return fail(err)
	}
	return entry.Value(), nil
}

// Apply returns what [Edit] would make of the letter, and keeps nothing. Its
// errors are the same.
func (l Letter) Apply(patch []byte) (Edited, error) {
	e := Edited{Patch: patch, Before: l.Payload, After: l.Payload}
	fail := func(err error) (Edited, error) { return e, fmt.Errorf("edit dead letter %d: %w", l.Sequence, err) }
	switch {
	case l.PayloadMissing:
		return fail(ErrPayloadMissing)
	case len(patch) == 0:
		return e, nil
	case len(patch) > maxPatchBytes:
		return fail(fmt.Errorf("%w: it has %d bytes, want at most %d", ErrPatch, len(patch), maxPatchBytes))
	case !jsontext.Value(patch).IsValid():
		return fail(fmt.Errorf("%w: it is no JSON; want an array of operations such as %s", ErrPatch, patchExample))
	case !jsontext.Value(l.Payload).IsValid():
		return fail(fmt.Errorf("%w: the payload is no JSON", ErrPatch))
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return fail(fmt.Errorf("%w: %w; want an array of operations such as %s", ErrPatch, err, patchExample))
	}
	opts := jsonpatch.NewApplyOptions()
	opts.AccumulatedCopySizeLimit = maxEditedBytes
	if e.After, err = apply(p, l.Payload, opts); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrPatch, err))
	}
	if len(e.After) > maxEditedBytes {
		return fail(fmt.Errorf("%w: it makes %d bytes, want at most %d", ErrPatch, len(e.After), maxEditedBytes))
	}
	return e, nil
}

const patchExample = `[{"op":"replace","path":"/customer/email","value":"a@example.com"}]`

// apply keeps the caller alive if the library panics at a patch.
func apply(p jsonpatch.Patch, doc []byte, opts *jsonpatch.ApplyOptions) (made []byte, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it is malformed")
		}
	}()
	return p.ApplyWithOptions(doc, opts)
}

func patchKey(seq uint64) string { return key(seq) + ".patch" }
