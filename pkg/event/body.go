package event

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/field"
)

// Body is an enriched event's body. On the wire it is the JSON object
//
//	{"trigger": …, "record": …, "related": {"name": …}, "truncated": ["name"], "stale": true, "deleted": true}
//
// Trigger is the provider's body if it is JSON, else a base64 string; it is
// null on reconciled events. Record is the full record, or null on a tombstone
// and on an event that speaks of no resource. Related has a null for a related
// record that is absent. Truncated names the related lists that go on behind what
// is here. Stale says that the source has kept showing an older record than the
// trigger spoke of. Only trigger, record and what is true or not empty is there.
type Body struct {
	Trigger   jsontext.Value            `json:"trigger"`
	Record    jsontext.Value            `json:"record"`
	Related   map[string]jsontext.Value `json:"related,omitempty"`
	Truncated []string                  `json:"truncated,omitempty"`
	Stale     bool                      `json:"stale,omitzero"`
	Deleted   bool                      `json:"deleted,omitzero"`
}

// Encode splices the parts into one JSON object without decoding them. The
// caller has checked that each is valid JSON.
func (b Body) Encode() []byte {
	n := len(b.Trigger) + len(b.Record) + 64
	for k, v := range b.Related {
		n += len(k) + len(v) + 8
	}
	out := append(make([]byte, 0, n), `{"trigger":`...)
	out = append(out, orNull(b.Trigger)...)
	out = append(out, `,"record":`...)
	out = append(out, orNull(b.Record)...)
	if len(b.Related) > 0 {
		out = append(out, `,"related":{`...)
		for i, k := range sortedKeys(b.Related) {
			if i > 0 {
				out = append(out, ',')
			}
			out, _ = jsontext.AppendQuote(out, k)
			out = append(out, ':')
			out = append(out, orNull(b.Related[k])...)
		}
		out = append(out, '}')
	}
	if len(b.Truncated) > 0 {
		out = append(out, `,"truncated":[`...)
		for i, name := range b.Truncated {
			if i > 0 {
				out = append(out, ',')
			}
			out, _ = jsontext.AppendQuote(out, name)
		}
		out = append(out, ']')
	}
	if b.Stale {
		out = append(out, `,"stale":true`...)
	}
	if b.Deleted {
		out = append(out, `,"deleted":true`...)
	}
	return append(out, '}')
}

// DecodeBody reads an enriched event's body. The error means that data was
// not written by Tercel.
func DecodeBody(data []byte) (Body, error) {
	var b Body
	if err := json.Unmarshal(data, &b); err != nil {
		return Body{}, fmt.Errorf("enriched body: not an object with trigger and record")
	}
	return b, nil
}

// TriggerValue is a trigger's raw body as a JSON value: itself when
// contentType says that it is JSON, else its base64 as a string.
func TriggerValue(contentType string, raw []byte) jsontext.Value {
	if IsJSON(contentType) && field.Valid(raw) == nil {
		return bytes.TrimSpace(raw)
	}
	v, _ := jsontext.AppendQuote(nil, base64.StdEncoding.EncodeToString(raw))
	return v
}

// IsJSON reports whether a media type is JSON: application/json, text/json or
// any with the suffix +json (RFC 6839).
func IsJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json"))
}

func orNull(v jsontext.Value) []byte {
	if len(v) == 0 {
		return []byte("null")
	}
	return v
}

func sortedKeys(m map[string]jsontext.Value) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
