package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tercelhq/tercel/pkg/topology"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

type statusCmd struct {
	apiFlags
	watchFlags
	JSON bool `name:"json" help:"Print the status as one JSON object."`
}

// Help is shown by --help.
func (statusCmd) Help() string {
	return `Example:
  tercel status --watch`
}

// statusView is the pipeline as the API tells it.
type statusView struct {
	pipeline  *adminv1.GetPipelineStatusResponse
	resources *adminv1.GetReconciliationStatusResponse
	sources   *adminv1.ListSourcesResponse
	findings  *adminv1.ListFindingsResponse
}

// findingsFor is how far back findings are shown.
const findingsFor = 7 * 24 * time.Hour

// Run runs the command.
func (c statusCmd) Run(a *app) error {
	api, err := c.dial(a)
	if err != nil {
		return err
	}
	return c.watch(a, func(a *app) error {
		s, err := api.status(a)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return s.json(a.out)
		default:
			return s.print(a.out)
		}
	})
}

func (p *api) status(a *app) (statusView, error) {
	var s statusView
	pipeline, err := p.pipeline.GetPipelineStatus(a.ctx, connect.NewRequest(&adminv1.GetPipelineStatusRequest{}))
	if err != nil {
		return s, err
	}
	resources, err := p.reconciliation.GetReconciliationStatus(a.ctx, connect.NewRequest(&adminv1.GetReconciliationStatusRequest{}))
	if err != nil {
		return s, err
	}
	sources, err := p.sources.ListSources(a.ctx, connect.NewRequest(&adminv1.ListSourcesRequest{}))
	if err != nil {
		return s, err
	}
	findings, err := p.pipeline.ListFindings(a.ctx, connect.NewRequest(&adminv1.ListFindingsRequest{
		Since: timestamppb.New(time.Now().Add(-findingsFor)), PageSize: 20,
	}))
	if err != nil {
		return s, err
	}
	return statusView{pipeline.Msg, resources.Msg, sources.Msg, findings.Msg}, nil
}

func (s statusView) json(w io.Writer) error {
	out := map[string]json.RawMessage{}
	for name, m := range map[string]proto.Message{"pipeline": s.pipeline, "reconciliation": s.resources, "sources": s.sources, "findings": s.findings} {
		text, err := message(m)
		if err != nil {
			return err
		}
		out[name] = text
	}
	return printJSON(w, out)
}

func (s statusView) print(w io.Writer) error {
	t := newTable(w, "stream", "messages", "bytes", "last", "replicas")
	for _, x := range s.pipeline.GetStreams() {
		t.row(x.GetName(), x.GetMessages(), x.GetBytes(), stamp(x.GetLastAt()), x.GetReplicas())
	}
	fmt.Fprintln(t.w)
	fmt.Fprintln(t.w, "STAGE\tPENDING\tIN HAND\tREDELIVERED\tBEHIND\tLAST ACK")
	for _, x := range s.pipeline.GetStages() {
		last := ago(x.GetLastAckAt())
		if x.GetPausedUntil() != nil {
			last = "paused " + untilWhen(x.GetPausedUntil())
		}
		t.row(x.GetStage()+" "+x.GetName(), x.GetPending(), x.GetInHand(), x.GetRedelivered(), x.GetBehind(), last)
	}
	if len(s.pipeline.GetAccounts()) > 0 {
		fmt.Fprintln(t.w)
		fmt.Fprintln(t.w, "SOURCE\tACCOUNTS\tBUCKET")
		for _, x := range s.pipeline.GetAccounts() {
			t.row(x.GetSource(), x.GetAccounts(), x.GetBucket())
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := printFindings(w, s.findings.GetFindings()); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printResources(w, s.resources.GetResources()); err != nil || len(s.sources.GetSources()) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printSources(w, s.sources.GetSources())
}

// untilWhen tells how long a pause has yet to last.
func untilWhen(until *timestamppb.Timestamp) string {
	if time.Until(until.AsTime()) > topology.UntilResumed/2 {
		return "until it is resumed"
	}
	return "until " + stamp(until)
}
