package contract

import (
	"maps"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/event"
)

// header is one attribute of an enriched event.
type header struct {
	name, means string
	always      bool
	schema      object // beside what it means
}

func text() object   { return object{"type": "string"} }
func moment() object { return object{"type": "string", "format": "date-time"} }

// headers are those that readers may rely on, after proto/tercel/event/v1. Others
// that begin with "tercel-" are Tercel's own.
var headers = []header{
	{event.HeaderSpecVersion, "The version of CloudEvents that the other ce- headers follow.", true, object{"type": "string", "const": "1.0"}},
	{event.HeaderID, "Names the event within its source and account, and stays the same when it is delivered again or replayed: the key to deduplicate by.", true, text()},
	{event.HeaderSource, "Where the event arose: /sources/SOURCE/ACCOUNT.", true, object{"type": "string", "pattern": "^/sources/[^/]+/[^/]+$"}},
	{event.HeaderType, "The kind of change, in the source's own spelling.", true, text()},
	{event.HeaderSubject, "The record's id at its source. Absent if the event is about no record.", false, text()},
	{event.HeaderTime, "When the change happened, by the source's clock.", false, moment()},
	{event.HeaderContentType, "The media type of the body.", true, object{"type": "string", "const": "application/json"}},
	{event.HeaderOrigin, "How the event entered Tercel. Others may be added.", true, object{"type": "string", "examples": []string{"webhook", "reconcile", "replay", "backfill"}}},
	{event.HeaderDeliveryID, "The source's own id of the delivery.", false, text()},
	{event.HeaderReceivedAt, "When Tercel took the trigger in.", true, moment()},
	{event.HeaderObservedAt, "When the source showed the record, or that it is gone.", false, moment()},
	{event.HeaderResource, "The kind of the record, as the pipeline file names it. Absent if the event is about no record.", false, text()},
	{event.HeaderVersion, "Orders the states of one record: the one that is greater byte by byte is newer.", false, text()},
	{event.HeaderDeleted, "There, and true, if the record is gone.", false, object{"type": "string", "const": "true"}},
	{event.HeaderTriggerSequence, "The sequence of the trigger in TERCEL_RAW.", true, object{"type": "string", "pattern": "^[0-9]+$"}},
	{event.HeaderTraceParent, "The trace of the event's way, after W3C Trace Context.", false, text()},
}

// attributes is the schema of an enriched event's headers, once what is percent-
// encoded in them has been decoded.
func attributes() object {
	properties, required := object{}, []string{}
	for _, h := range headers {
		s := maps.Clone(h.schema)
		s["description"] = h.means
		properties[h.name] = s
		if h.always {
			required = append(required, h.name)
		}
	}
	return object{
		"type": "object", "properties": properties, "required": required,
		"description": "Headers after the CloudEvents NATS binding in binary mode. Values are percent-encoded.",
	}
}

// schema is the one of the message's body.
func (m message) schema() object {
	properties := object{
		"trigger": object{"description": "The body of the webhook: as it came if it is JSON, else as a string in base64. Null if no webhook told of it."},
		"record":  object{"type": "null", "description": "Always null: the event is about no record."},
	}
	title := "event of " + m.source
	if m.resource != plain {
		title = m.resource + " of " + m.source
		properties["record"] = object{"type": []string{"object", "null"}, "description": m.recordMeans()}
		properties["deleted"] = object{"type": "boolean", "description": "The record no longer exists at the source. Absent means false."}
		properties["stale"] = object{"type": "boolean", "description": "The trigger speaks of a newer record than the source has shown since. Absent means false."}
		m.addRelated(properties)
	}
	return object{"type": "object", "title": title, "properties": properties, "required": []string{"trigger", "record"}}
}

func (m message) recordMeans() string {
	means := "The record as the source's API gave it. Null if it is gone."
	var replaced []string
	for _, name := range slices.Sorted(maps.Keys(m.of.Related)) {
		if at := m.of.Related[name].Merge.Replace; at != "" {
			replaced = append(replaced, name+" stands at "+at)
		}
	}
	if len(replaced) > 0 {
		means += " In it, " + strings.Join(replaced, ", ") + "."
	}
	return means
}

// addRelated describes the related records, of which those that are lists may
// have been cut short.
func (m message) addRelated(properties object) {
	related, lists := object{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(m.of.Related)) {
		r := m.of.Related[name]
		if r.List != nil {
			lists = append(lists, name)
		}
		if r.Merge.Replace != "" {
			continue
		}
		s := object{}
		if r.List != nil {
			s["type"] = []string{"array", "null"}
		}
		if r.Optional {
			s["description"] = "Null where the source has none."
		}
		related[name] = s
	}
	if len(related) > 0 {
		properties["related"] = object{"type": "object", "properties": related, "description": "The records that complete this one. Absent where they were not asked for."}
	}
	if len(lists) > 0 {
		properties["truncated"] = object{
			"type": "array", "items": object{"enum": lists},
			"description": "The related lists that go on behind what is here.",
		}
	}
}
