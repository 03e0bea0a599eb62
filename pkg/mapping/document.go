package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/itchyny/gojq"

	"github.com/tercelhq/tercel/pkg/event"
)

// Bounds of an answer. It becomes a document that others have to read.
const (
	maxBytes = 8 << 20
	maxDepth = 1000 // arrays and objects inside each other
)

// Document is what an expression sees. It is read when first needed, and once
// for all expressions that see it; it is not safe for concurrent use.
type Document struct {
	// Event are the event's attributes.
	Event event.Event
	// Trigger, Record and Related are the parts of the event's body, each as
	// JSON; nil stands for null.
	Trigger, Record, Related jsontext.Value

	read map[string]any
}

func (d *Document) value() (any, error) {
	if d.read != nil {
		return d.read, nil
	}
	doc := map[string]any{"event": attributes(d.Event)}
	for name, text := range map[string]jsontext.Value{"trigger": d.Trigger, "record": d.Record, "related": d.Related} {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: not JSON", name)
		}
		doc[name] = v
	}
	d.read = doc
	return doc, nil
}

// attributes are those of an event that has no use for the ones of transport.
func attributes(e event.Event) map[string]any {
	account := e.Account
	if account == event.NoAccount {
		account = ""
	}
	return map[string]any{
		"id": orNull(e.ID), "delivery_id": orNull(e.DeliveryID), "source": orNull(e.Source), "account": orNull(account),
		"type": orNull(e.Type), "origin": orNull(string(e.Origin)), "part": orNull(e.Part), "resource": orNull(e.Resource),
		"record_id": orNull(e.RecordID), "version": orNull(string(e.Version)), "time": moment(e.Time),
		"received_at": moment(e.ReceivedAt), "observed_at": moment(e.ObservedAt), "deleted": e.Deleted,
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// parse reads one JSON value. Numbers stay as they are spelled.
func parse(text jsontext.Value) (any, error) {
	if len(text) == 0 {
		return nil, nil
	}
	return parseValue(jsontext.NewDecoder(bytes.NewBuffer(text)))
}

func parseValue(d *jsontext.Decoder) (any, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case 't', 'f':
		return tok.Bool(), nil
	case '"':
		return tok.String(), nil
	case '0':
		return json.Number(tok.String()), nil
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			v, err := parseValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.ReadToken()
		return list, err
	case '{':
		return parseObject(d)
	default:
		return nil, nil
	}
}

// parseObject reads the members of an object and its end.
func parseObject(d *jsontext.Decoder) (any, error) {
	object := map[string]any{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // the token is the decoder's
		if object[key], err = parseValue(d); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return object, err
}

var (
	errLarge = fmt.Errorf("gives more than %d MiB", maxBytes>>20)
	errDeep  = fmt.Errorf("gives a value more than %d levels deep", maxDepth)
)

// appendValue appends v as JSON, members sorted by name. A value that has some
// part many times takes its size only here.
func appendValue(b []byte, v any, depth int) (_ []byte, err error) {
	if depth == 0 {
		return nil, errDeep
	}
	switch v := v.(type) {
	case string:
		b, _ = jsontext.AppendQuote(b, v) // what is no UTF-8 it replaces
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, e, depth-1); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b, _ = jsontext.AppendQuote(b, name)
			if b, err = appendValue(append(b, ':'), v[name], depth-1); err != nil {
				return nil, err
			}
		}
		b = append(b, '}')
	default:
		scalar, err := gojq.Marshal(v)
		if err != nil {
			return nil, errors.New("gives what is no JSON")
		}
		b = append(b, scalar...)
	}
	if len(b) > maxBytes {
		return nil, errLarge
	}
	return b, nil
}

// kind is the name of v's type in jq, with its article.
func kind(v any) string {
	switch name := gojq.TypeOf(v); name {
	case "null":
		return name
	case "array", "object":
		return "an " + name
	default:
		return "a " + name
	}
}
