package pages

import (
	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// auditPage is what operators did.
type auditPage struct {
	Records []*adminv1.AuditRecord
	Next    string
}

func (p *Pages) audit(r *request) error {
	got, err := p.api.pipeline.ListAuditRecords(r.Context(), connect.NewRequest(&adminv1.ListAuditRecordsRequest{
		Who: r.FormValue("who"), PageToken: r.FormValue("page"),
	}))
	if err != nil {
		return err
	}
	page := auditPage{Records: got.Msg.GetRecords()}
	if next := got.Msg.GetNextPageToken(); next != "" {
		page.Next = "/audit?" + query("who", r.FormValue("who"), "page", next)
	}
	return r.show("audit.html", frame{Title: "Audit records", Path: "/audit", Data: page})
}
