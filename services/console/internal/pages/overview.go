package pages

import (
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// overviewPage is the whole pipeline at a glance.
type overviewPage struct {
	Status    *adminv1.GetPipelineStatusResponse
	Flow      []flow
	Sources   []*adminv1.Source
	Resources []*adminv1.ResourceStatus
	Groups    []*adminv1.DeadLetterGroup
	// Missing says which part could not be read.
	Missing []string
}

// flow is one stage on an event's way.
type flow struct {
	Stage, Name string
	// PerSecond is how fast it goes at present; Known says that it is known yet.
	PerSecond float64
	Known     bool
	Status    *adminv1.StageStatus
	// Stored are the stream's, for the stage that has no consumer.
	Stored uint64
}

func (p *Pages) overview(r *request) error {
	var page overviewPage
	status, err := p.api.pipeline.GetPipelineStatus(r.Context(), connect.NewRequest(&adminv1.GetPipelineStatusRequest{}))
	if err != nil {
		return err
	}
	page.Status = status.Msg
	page.Flow = p.rates.flow(status.Msg)
	// The rest is of use without each other.
	if sources, err := p.api.sources.ListSources(r.Context(), connect.NewRequest(&adminv1.ListSourcesRequest{Window: durationpb.New(time.Hour)})); err == nil {
		page.Sources = sources.Msg.GetSources()
	} else {
		page.Missing = append(page.Missing, "sources: "+err.Error())
	}
	if rec, err := p.api.reconciliations.GetReconciliationStatus(r.Context(), connect.NewRequest(&adminv1.GetReconciliationStatusRequest{})); err == nil {
		page.Resources = rec.Msg.GetResources()
	} else {
		page.Missing = append(page.Missing, "reconciliation: "+err.Error())
	}
	open := []adminv1.DeadLetterState{adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN}
	if groups, err := p.api.deadLetters.ListDeadLetterGroups(r.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{
		Filter: &adminv1.DeadLetterFilter{State: open}, PageSize: 5,
	})); err == nil {
		page.Groups = groups.Msg.GetGroups()
	} else {
		page.Missing = append(page.Missing, "dead letters: "+err.Error())
	}
	return r.show("overview.html", frame{Title: "Overview", Path: "/", Refresh: 3, Data: page})
}

// Rates are counted over at least minSpan, and forgotten when nobody has looked
// for maxSpan.
const (
	minSpan = 2 * time.Second
	maxSpan = time.Minute
)

// rates tell how fast stages go, by what the page showed last. Nothing is
// measured while nobody looks.
type rates struct {
	now func() time.Time

	mu         sync.Mutex // guards what follows
	last, then sample
}

// sample is how far each stage was at a time.
type sample struct {
	at   time.Time
	done map[string]uint64
}

// flow returns the stages on an event's way with their rates.
func (t *rates) flow(status *adminv1.GetPipelineStatusResponse) []flow {
	var stages []flow
	now := sample{t.now(), map[string]uint64{}}
	for _, s := range status.GetStreams() {
		if s.GetName() == "TERCEL_RAW" {
			stages = append(stages, flow{Stage: "ingress", Stored: s.GetMessages()})
			now.done["ingress/"] = s.GetLastSequence()
		}
	}
	for _, s := range status.GetStages() {
		stages = append(stages, flow{Stage: s.GetStage(), Name: s.GetName(), Status: s})
		now.done[s.GetStage()+"/"+s.GetName()] = s.GetAcknowledged()
	}
	before := t.take(now)
	span := now.at.Sub(before.at).Seconds()
	for i := range stages {
		key := stages[i].Stage + "/" + stages[i].Name
		was, ok := before.done[key]
		if is := now.done[key]; ok && is >= was && span > 0 {
			stages[i].PerSecond, stages[i].Known = float64(is-was)/span, true
		}
	}
	return stages
}

// take notes a sample and returns the one to compare it with.
func (t *rates) take(now sample) sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.at.Sub(t.last.at) >= minSpan {
		t.then, t.last = t.last, now
	}
	if now.at.Sub(t.then.at) > maxSpan {
		return sample{}
	}
	return t.then
}
