package provider

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/field"
)

// Version says what orders a record's versions, so that the newest wins. It is
// written as one of
//
//   - an expression over the record, such as record.updated_at: a number or a
//     time that grows with each change. As exact as the source is; what it
//     changes within one tick of that is ordered by when it was seen.
//   - header.Last-Modified: the time in the answer's header, in whole seconds.
//   - event.time: the time of the event that spoke of the record, for sources
//     whose records have none. The record may be newer than that. Where events
//     share a time, the one whose record was seen last counts.
//   - header.ETag or hash: what state the record is in, which has no order: the
//     state that was seen last counts, see [event.SeenVersion]. The hash is that
//     of what select keeps, whatever its spelling and the order of its members.
//
// Lists have no headers and no events, so that a resource which is reconciled
// needs a version of the record.
type Version struct {
	text string
	expr RecordExpr // of the first kind
}

// The versions that are not part of a record.
const (
	versionModified = "header.Last-Modified"
	versionETag     = "header.ETag"
	versionEvent    = "event.time"
	versionHash     = "hash"
)

// Forms lists what DecodeNode takes, for the schema of files.
func (Version) Forms() []any { return []any{""} }

// DecodeNode reads the text.
func (v *Version) DecodeNode(n config.Node) {
	*v = Version{text: n.Text()}
	for _, known := range []string{versionModified, versionETag, versionEvent, versionHash} {
		if strings.EqualFold(v.text, known) {
			v.text = known
			return
		}
	}
	e, err := field.Parse(v.text, "record")
	if err != nil {
		n.Fault("an expression such as record.updated_at, or one of header.Last-Modified, header.ETag, event.time and hash")
		return
	}
	v.expr = RecordExpr{e}
}

// IsZero reports whether nothing is said.
func (v Version) IsZero() bool { return v.text == "" }

// ofRecord reports whether a record alone, and when it was seen, give its version.
func (v Version) ofRecord() bool { return !v.expr.IsZero() || v.text == versionHash }

// ordered reports whether versions tell which one is older.
func (v Version) ordered() bool { return !v.expr.IsZero() || v.text == versionModified }

// Sight is one look at a record.
type Sight struct {
	// Record is what the source showed.
	Record []byte
	// At is when it was asked.
	At time.Time
	// Header are the headers of its answer, which that of a list doesn't have.
	Header http.Header
	// Event is when the event happened that spoke of the record.
	Event time.Time
}

// VersionOf returns a record's version.
func (r Resource) VersionOf(s Sight) (event.Version, error) {
	switch r.Version.text {
	case versionHash:
		state, err := jsontext.AppendFormat(nil, r.Select.In(s.Record), jsontext.ReorderRawObjects(true))
		if err != nil {
			return "", fmt.Errorf("hash of the record: %w", err)
		}
		return event.SeenVersion(s.At, state), nil
	case versionETag:
		tag := strings.TrimPrefix(s.Header.Get("ETag"), "W/")
		if tag == "" {
			return "", fmt.Errorf("%s: %w", versionETag, field.ErrMissing)
		}
		return event.SeenVersion(s.At, []byte(tag)), nil
	case versionModified:
		t, err := http.ParseTime(s.Header.Get("Last-Modified"))
		if err != nil {
			return "", fmt.Errorf("%s: no HTTP date", versionModified)
		}
		return event.TimeVersion(t), nil
	case versionEvent:
		if s.Event.IsZero() {
			return "", fmt.Errorf("%s: %w", versionEvent, field.ErrMissing)
		}
		return event.TimeVersion(s.Event), nil
	}
	text, err := r.Version.expr.In(s.Record)
	if err != nil {
		return "", err
	}
	return event.ParseVersion(text)
}

// Selection are the parts of a record that are kept; the zero Selection keeps
// everything.
type Selection struct{ kept *field.Tree }

// Forms lists what DecodeNode takes, for the schema of files.
func (Selection) Forms() []any { return []any{[]string{}} }

// DecodeNode reads a list of paths.
func (s *Selection) DecodeNode(n config.Node) {
	var paths []string
	if !n.Decode(&paths) {
		return
	}
	var err error
	if s.kept, err = field.ParseTree(paths); err != nil {
		n.Fault("paths such as [id, customer.email, \"lines[].sku\"] (" + err.Error() + ")")
	}
}

// In returns what is kept of a record: its bytes, without the members that are
// not named. What is no object is kept as it is.
func (s Selection) In(record []byte) []byte {
	if s.kept == nil {
		return record
	}
	return s.kept.Of(record)
}
