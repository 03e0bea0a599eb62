package delivery

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendLine appends it as one line of JSON, written at now. Absent texts are
// null. The parts of the body are spliced
// in as they are, but for white space that would break the line.
func AppendLine(b []byte, it Item, now string) []byte {
	e := it.Event
	b = append(b, '{')
	for _, m := range [...]struct{ name, value string }{
		{"event_id", e.ID},
		{"source", e.Source},
		{"account", e.Account},
		{"type", e.Type},
		{"resource", e.Resource},
		{"record_id", e.RecordID},
		{"version", string(e.Version)},
		{"origin", string(e.Origin)},
	} {
		b = appendText(b, m.name, m.value)
	}
	b = append(b, `"deleted":`...)
	b = append(strconv.AppendBool(b, e.Deleted), ',')
	for _, m := range [...]struct{ name, value string }{
		{"event_time", Time(e.Time)},
		{"received_at", Time(e.ReceivedAt)},
		{"observed_at", Time(e.ObservedAt)},
		{"written_at", now},
	} {
		b = appendText(b, m.name, m.value)
	}
	b = append(b, `"sequence":`...)
	b = strconv.AppendUint(b, it.Sequence, 10)
	b = appendJSON(append(b, `,"trigger":`...), it.Trigger)
	b = appendJSON(append(b, `,"record":`...), it.Record)
	b = appendJSON(append(b, `,"related":`...), it.Related)
	return append(b, '}', '\n')
}

func appendText(b []byte, name, value string) []byte {
	b = append(b, '"')
	b = append(append(b, name...), '"', ':')
	if value == "" {
		b = append(b, "null"...)
	} else {
		// Its only error is invalid UTF-8, which it replaces; headers hold none.
		b, _ = jsontext.AppendQuote(b, value)
	}
	return append(b, ',')
}

func appendJSON(b []byte, v jsontext.Value) []byte {
	if len(v) == 0 {
		return append(b, "null"...)
	}
	if bytes.ContainsAny(v, "\r\n") { // between tokens: strings hold none unescaped
		v = v.Clone()
		_ = v.Compact() // it was decoded, so it is valid
	}
	return append(b, v...)
}
