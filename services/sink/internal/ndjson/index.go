package ndjson

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

// maxSeen is how many events the index knows, about 60 MB of memory.
const maxSeen = 1_000_000

// index is a set of the newest events.
type index struct {
	max   int
	known map[delivery.Key]struct{}
	order []delivery.Key // a ring once it is full
	next  int            // the oldest in a full ring
}

func newIndex(size int) *index { return &index{max: size, known: map[delivery.Key]struct{}{}} }

func (x *index) has(k delivery.Key) bool {
	_, ok := x.known[k]
	return ok
}

func (x *index) add(k delivery.Key) {
	if x.has(k) {
		return
	}
	x.known[k] = struct{}{}
	if len(x.order) < x.max {
		x.order = append(x.order, k)
		return
	}
	delete(x.known, x.order[x.next])
	x.order[x.next] = k
	x.next = (x.next + 1) % x.max
}

// fill adds the events of the numbered files, as many of the newest as fit.
func (x *index) fill(ctx context.Context, path func(number int) string, numbers []int) error {
	var files [][]delivery.Key // newest first
	for total, i := 0, len(numbers)-1; i >= 0 && total < x.max; i-- {
		keys, err := readKeys(ctx, path(numbers[i]))
		if err != nil {
			return err
		}
		files = append(files, keys)
		total += len(keys)
	}
	for _, keys := range slices.Backward(files) {
		for _, k := range keys {
			x.add(k)
		}
	}
	return nil
}

func readKeys(ctx context.Context, path string) ([]delivery.Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	var keys []delivery.Key
	at := int64(0)
	for line, err := range lines(file) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		k, err := lineKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s: the line at byte %d is damaged: mend it or move the file away", path, at)
		}
		at += int64(len(line))
		keys = append(keys, k)
	}
	return keys, nil
}

var errDamaged = errors.New("not a whole line")

// lineKey reads the identity from a line. It checks that the line ends as
// lines do, but reads no more of it than its first members.
func lineKey(line []byte) (delivery.Key, error) {
	if !bytes.HasSuffix(line, []byte("}\n")) {
		return delivery.Key{}, errDamaged
	}
	d := jsontext.NewDecoder(bytes.NewReader(line))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return delivery.Key{}, errDamaged
	}
	var values [3]string
	for i, want := range [...]string{"event_id", "source", "account"} {
		name, err := d.ReadToken()
		if err != nil || name.Kind() != '"' || name.String() != want {
			return delivery.Key{}, errDamaged
		}
		value, err := d.ReadToken()
		if err != nil || value.Kind() != '"' {
			return delivery.Key{}, errDamaged
		}
		values[i] = value.String()
	}
	return delivery.KeyOf(event.Event{ID: values[0], Source: values[1], Account: values[2]}), nil
}
