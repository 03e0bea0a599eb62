package pages

import (
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// sourcesPage is where events come from.
type sourcesPage struct {
	Sources []*adminv1.Source
	Since   *timestamppb.Timestamp
}

func (p *Pages) sources(r *request) error {
	got, err := p.api.sources.ListSources(r.Context(), connect.NewRequest(&adminv1.ListSourcesRequest{}))
	if err != nil {
		return err
	}
	return r.show("sources.html", frame{Title: "Sources", Path: "/sources", Refresh: 5, Data: sourcesPage{got.Msg.GetSources(), got.Msg.GetCountedSince()}})
}

func (p *Pages) pauseSource(r *request) error {
	if _, err := p.api.sources.PauseSource(r.Context(), connect.NewRequest(&adminv1.PauseSourceRequest{Source: r.PostFormValue("source"), Reason: reasonOf(r)})); err != nil {
		return err
	}
	return r.see("/sources")
}

func (p *Pages) resumeSource(r *request) error {
	if _, err := p.api.sources.ResumeSource(r.Context(), connect.NewRequest(&adminv1.ResumeSourceRequest{Source: r.PostFormValue("source"), Reason: reasonOf(r)})); err != nil {
		return err
	}
	return r.see("/sources")
}

// refusalsPage is requests that were refused.
type refusalsPage struct {
	Source, ID string
	Refusals   []*adminv1.Refusal
	Next       string
}

func (p *Pages) refusals(r *request) error {
	page := refusalsPage{Source: r.FormValue("source"), ID: r.FormValue("id")}
	got, err := p.api.sources.ListRefusals(r.Context(), connect.NewRequest(&adminv1.ListRefusalsRequest{
		Source: page.Source, ClaimedId: page.ID, PageToken: r.FormValue("page"),
	}))
	if err != nil {
		return err
	}
	page.Refusals = got.Msg.GetRefusals()
	if next := got.Msg.GetNextPageToken(); next != "" {
		page.Next = "/sources/refusals?" + query("source", page.Source, "id", page.ID, "page", next)
	}
	return r.show("refusals.html", frame{Title: "Refused requests", Path: "/sources", Data: page})
}
