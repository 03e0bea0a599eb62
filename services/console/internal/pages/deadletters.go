package pages

import (
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// groupsPage is dead letters by their cause.
type groupsPage struct {
	Groups []*adminv1.DeadLetterGroup
	All    bool // closed ones too
	Next   string
}

func (p *Pages) groups(r *request) error {
	all := r.FormValue("all") != ""
	ask := &adminv1.ListDeadLetterGroupsRequest{Filter: &adminv1.DeadLetterFilter{}, PageToken: r.FormValue("page")}
	if !all {
		ask.State = []adminv1.DeadLetterGroupState{
			adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_OPEN, adminv1.DeadLetterGroupState_DEAD_LETTER_GROUP_STATE_WATCHED,
		}
	}
	got, err := p.api.deadLetters.ListDeadLetterGroups(r.Context(), connect.NewRequest(ask))
	if err != nil {
		return err
	}
	page := groupsPage{Groups: got.Msg.GetGroups(), All: all}
	if next := got.Msg.GetNextPageToken(); next != "" {
		page.Next = "/dead-letters?" + query("page", next, "all", r.FormValue("all"))
	}
	return r.show("groups.html", frame{Title: "Dead letters", Path: "/dead-letters", Refresh: 5, Data: page})
}

// lettersPage is a list of dead letters.
type lettersPage struct {
	Letters []*adminv1.DeadLetter
	Form    letterForm
	Next    string
}

// letterForm is which letters, as it was filled in.
type letterForm struct {
	Source, Account, Type, Stage, Destination, Fingerprint, State, EventID, Sequence string
}

var letterStates = map[string]adminv1.DeadLetterState{
	"open": adminv1.DeadLetterState_DEAD_LETTER_STATE_OPEN, "replayed": adminv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED,
	"discarded": adminv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED,
}

func readLetterForm(r *request) (letterForm, *adminv1.DeadLetterFilter, error) {
	get := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	f := letterForm{
		get("source"), get("account"), get("type"), get("stage"), get("destination"), get("fingerprint"), get("state"),
		get("event"), get("sequence"),
	}
	filter := &adminv1.DeadLetterFilter{
		Source: f.Source, Account: f.Account, Type: f.Type, Stage: f.Stage, Destination: f.Destination,
		Fingerprint: f.Fingerprint, EventId: f.EventID,
	}
	if f.State != "" {
		state, ok := letterStates[f.State]
		if !ok {
			return f, nil, badForm("state: want open, replayed or discarded")
		}
		filter.State = append(filter.State, state)
	}
	if f.Sequence != "" {
		seq, err := strconv.ParseUint(f.Sequence, 10, 64)
		if err != nil || seq == 0 {
			return f, nil, badForm("sequence: want the number of a dead letter")
		}
		filter.Sequence = append(filter.Sequence, seq)
	}
	return f, filter, nil
}

// Query is the form as an address has it.
func (f letterForm) Query(more ...string) string {
	return query(append([]string{
		"source", f.Source, "account", f.Account, "type", f.Type, "stage", f.Stage, "destination", f.Destination,
		"fingerprint", f.Fingerprint, "state", f.State, "event", f.EventID, "sequence", f.Sequence,
	}, more...)...)
}

func (p *Pages) letters(r *request) error {
	form, filter, err := readLetterForm(r)
	if err != nil {
		return err
	}
	page, err := p.someLetters(r, form, filter)
	if err != nil {
		return err
	}
	return r.show("letters.html", frame{Title: "All dead letters", Path: "/dead-letters", Data: page})
}

func (p *Pages) someLetters(r *request, form letterForm, filter *adminv1.DeadLetterFilter) (lettersPage, error) {
	got, err := p.api.deadLetters.ListDeadLetters(r.Context(), connect.NewRequest(&adminv1.ListDeadLettersRequest{
		Filter: filter, PageToken: r.FormValue("page"),
	}))
	if err != nil {
		return lettersPage{}, err
	}
	page := lettersPage{Letters: got.Msg.GetDeadLetters(), Form: form}
	if next := got.Msg.GetNextPageToken(); next != "" {
		page.Next = r.URL.Path + "?" + form.Query("page", next)
	}
	return page, nil
}

// groupPage is one cause with its letters.
type groupPage struct {
	Group *adminv1.DeadLetterGroup
	lettersPage
}

func (p *Pages) group(r *request) error {
	form, filter, err := readLetterForm(r)
	if err != nil {
		return err
	}
	form.Fingerprint = r.PathValue("fingerprint")
	filter.Fingerprint = form.Fingerprint
	got, err := p.api.deadLetters.ListDeadLetterGroups(r.Context(), connect.NewRequest(&adminv1.ListDeadLetterGroupsRequest{
		Filter: &adminv1.DeadLetterFilter{Fingerprint: form.Fingerprint},
	}))
	if err != nil {
		return err
	}
	page := groupPage{}
	if page.lettersPage, err = p.someLetters(r, form, filter); err != nil {
		return err
	}
	for _, g := range got.Msg.GetGroups() {
		page.Group = g
	}
	if page.Group == nil {
		return missing("no dead letters have the fingerprint %q (any more)", form.Fingerprint)
	}
	return r.show("group.html", frame{Title: page.Group.GetMessage(), Path: "/dead-letters", Refresh: 5, Data: page})
}

// letterPage is one letter.
type letterPage struct {
	*adminv1.GetDeadLetterResponse
	// Patch is what stands in the form, Edit what it would make.
	Patch string
	Edit  *adminv1.EditDeadLetterResponse
	Error string
}

func (p *Pages) letter(r *request) error {
	page, err := p.oneLetter(r)
	if err != nil {
		return err
	}
	page.Patch = page.GetPatch()
	return r.show("letter.html", frame{Title: fmt.Sprintf("Dead letter %d", page.GetDeadLetter().GetSequence()), Path: "/dead-letters", Data: page})
}

func (p *Pages) oneLetter(r *request) (letterPage, error) {
	seq, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil || seq == 0 {
		return letterPage{}, missing("no dead letter has the number %q", r.PathValue("sequence"))
	}
	got, err := p.api.deadLetters.GetDeadLetter(r.Context(), connect.NewRequest(&adminv1.GetDeadLetterRequest{Sequence: seq, MaxPayloadBytes: shownBytes}))
	if err != nil {
		return letterPage{}, err
	}
	return letterPage{GetDeadLetterResponse: got.Msg}, nil
}

// edit shows what a patch would make, or keeps it.
func (p *Pages) edit(r *request) error {
	page, err := p.oneLetter(r)
	if err != nil {
		return err
	}
	keep := r.PostFormValue("do") == "keep"
	page.Patch = r.PostFormValue("patch")
	ask := &adminv1.EditDeadLetterRequest{
		Sequence: page.GetDeadLetter().GetSequence(), Patch: page.Patch, DryRun: !keep, Reason: r.PostFormValue("reason"),
	}
	if r.PostFormValue("do") == "drop" {
		ask.Patch, ask.DryRun = "", false
	}
	if ask.GetDryRun() && ask.GetReason() == "" {
		ask.Reason = "a look at what an edit would make"
	}
	got, err := p.api.deadLetters.EditDeadLetter(r.Context(), connect.NewRequest(ask))
	switch {
	case err != nil:
		page.Error = told(err)
	case !ask.GetDryRun():
		return r.see(fmt.Sprintf("/dead-letters/%d", ask.GetSequence()))
	default:
		page.Edit = got.Msg
	}
	return r.show("letter.html", frame{Title: fmt.Sprintf("Dead letter %d", ask.GetSequence()), Path: "/dead-letters", Data: page})
}

func (p *Pages) discard(r *request) error {
	form, filter, err := readLetterForm(r)
	if err != nil {
		return err
	}
	expected, err := strconv.ParseUint(r.PostFormValue("expected"), 10, 32)
	if err != nil {
		return badForm("expected: want how many letters are to be discarded")
	}
	if _, err := p.api.deadLetters.DiscardDeadLetters(r.Context(), connect.NewRequest(&adminv1.DiscardDeadLettersRequest{
		Filter: filter, Expected: uint32(expected), Reason: r.PostFormValue("reason"),
	})); err != nil {
		return err
	}
	return r.see(form.Back())
}

// Back is the page that a form about letters belongs to.
func (f letterForm) Back() string {
	switch {
	case f.Sequence != "":
		return "/dead-letters/" + f.Sequence
	case f.Fingerprint != "":
		return "/dead-letters/groups/" + f.Fingerprint
	default:
		return "/dead-letters/all?" + f.Query()
	}
}
