package pages

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// auditPage is what operators did.
type auditPage struct {
	Records []auditRow
	Next    string
}

// auditRow is one record as the page shows it.
type auditRow struct {
	*adminv1.AuditRecord
	Asked []fact // the request
	Said  string // why it failed
	Came  []fact // what came of it
}

func (p *Pages) audit(r *request) error {
	got, err := p.api.pipeline.ListAuditRecords(r.Context(), connect.NewRequest(&adminv1.ListAuditRecordsRequest{
		Who: r.FormValue("who"), PageToken: r.FormValue("page"),
	}))
	if err != nil {
		return err
	}
	page := auditPage{}
	for _, record := range got.Msg.GetRecords() {
		row := auditRow{AuditRecord: record}
		_, row.Asked = facts(record.GetRequest())
		row.Said, row.Came = facts(record.GetResult())
		page.Records = append(page.Records, row)
	}
	if next := got.Msg.GetNextPageToken(); next != "" {
		page.Next = "/audit?" + query("who", r.FormValue("who"), "page", next)
	}
	return r.show("audit.html", frame{Title: "Audit records", Path: "/audit", Data: page})
}

// fact is one field of a message.
type fact struct{ Name, Value string }

// facts reads a text of an audit record: a message in JSON, perhaps behind what an
// error said. Of a text that was cut, all is said.
func facts(text string) (said string, all []fact) {
	for at := 0; ; {
		begin := strings.IndexByte(text[at:], '{')
		if begin < 0 {
			return text, nil
		}
		var message map[string]json.RawMessage
		if begin += at; json.Unmarshal([]byte(text[begin:]), &message) == nil {
			return strings.TrimSpace(text[:begin]), appendFacts(nil, "", message)
		}
		at = begin + 1
	}
}

func appendFacts(all []fact, prefix string, message map[string]json.RawMessage) []fact {
	for _, name := range slices.Sorted(maps.Keys(message)) {
		var inner map[string]json.RawMessage
		var text string
		switch value := message[name]; {
		case json.Unmarshal(value, &inner) == nil && inner != nil:
			all = appendFacts(all, prefix+words(name)+", ", inner)
		case json.Unmarshal(value, &text) == nil:
			all = append(all, fact{prefix + words(name), text})
		default:
			all = append(all, fact{prefix + words(name), string(value)})
		}
	}
	return all
}

// words is a field's name of the contract, such as planToken, as one reads it.
func words(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
