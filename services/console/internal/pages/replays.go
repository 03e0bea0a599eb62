package pages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
	"github.com/tercelhq/tercel/services/internal/auditlog"
)

// planPage says what a replay would do, before it does anything.
type planPage struct {
	Form         letterForm
	Stage        string
	Destinations []string
	Plan         *adminv1.ReplayPlan
	Rate         uint32
}

var replayStages = map[string]adminv1.ReplayStage{
	"": adminv1.ReplayStage_REPLAY_STAGE_UNSPECIFIED, "enrich": adminv1.ReplayStage_REPLAY_STAGE_ENRICH,
	"deliver": adminv1.ReplayStage_REPLAY_STAGE_DELIVER, "verify": adminv1.ReplayStage_REPLAY_STAGE_VERIFY,
}

// choice is which letters a form is about, where they begin and for whom.
func choice(r *request) (page planPage, filter *adminv1.DeadLetterFilter, stage adminv1.ReplayStage, err error) {
	page.Form, filter, err = readLetterForm(r)
	page.Stage = r.PostFormValue("begin")
	if page.Destinations = r.PostForm["to"]; slices.Contains(page.Destinations, "") {
		page.Destinations = nil
	}
	stage, ok := replayStages[page.Stage]
	if err == nil && !ok {
		err = badForm("begin: want verify, enrich or deliver")
	}
	return page, filter, stage, err
}

func (p *Pages) plan(r *request) error {
	page, filter, stage, err := choice(r)
	if err != nil {
		return err
	}
	got, err := p.api.deadLetters.PlanDeadLetterReplay(r.Context(), connect.NewRequest(&adminv1.PlanDeadLetterReplayRequest{
		Filter: filter, Stage: stage, Destinations: page.Destinations,
	}))
	if err != nil {
		return err
	}
	page.Plan, page.Rate = got.Msg.GetPlan(), defaultRate
	return r.show("plan.html", frame{Title: "Replay", Path: "/dead-letters", Data: page})
}

const defaultRate = 100

func (p *Pages) replay(r *request) error {
	page, filter, stage, err := choice(r)
	if err != nil {
		return err
	}
	rate, err := strconv.ParseUint(r.PostFormValue("rate"), 10, 32)
	if err != nil {
		return badForm("rate: want messages in a second, 1 to 10,000")
	}
	ask := &adminv1.ReplayDeadLettersRequest{
		Filter: filter, Stage: stage, Destinations: page.Destinations, PlanToken: r.PostFormValue("plan"),
		Rate: uint32(rate), Force: r.PostFormValue("force") != "", Reason: r.PostFormValue("reason"),
	}
	if r.PostFormValue("do") == "one" {
		ask.Limit = 1
	}
	id, err := p.replays.begin(r, ask, page.Form)
	if err != nil {
		return err
	}
	return r.see("/replays/" + id)
}

// Bounds of replays that were begun on a page.
const (
	maxReplays = 32
	keepReplay = time.Hour
)

// replays are those that were begun on a page. They go on when the page is
// closed, and end with the console.
type replays struct {
	api clients
	now func() time.Time
	ctx context.Context //nolint:containedctx // replays outlive the requests that begin them
	end context.CancelFunc
	all sync.WaitGroup

	mu   sync.Mutex // guards byID and what is in it
	byID map[string]*replayed
}

// replayed is one replay.
type replayed struct {
	who   string
	form  letterForm
	stop  context.CancelCauseFunc
	begun time.Time
	ended time.Time // zero while it goes on
	last  *adminv1.ReplayDeadLettersResponse
	// failures are the first ones.
	failures []*adminv1.ReplayFailure
	err      string
}

func newReplays(api clients, now func() time.Time) *replays {
	ctx, end := context.WithCancel(context.Background())
	return &replays{api: api, now: now, ctx: ctx, end: end, byID: map[string]*replayed{}}
}

func (s *replays) close() {
	s.end()
	s.all.Wait()
}

// begin begins a replay in the name of whoever asks, and returns when the first
// word of it has come, with what identifies it.
func (s *replays) begin(r *request, ask *adminv1.ReplayDeadLettersRequest, form letterForm) (string, error) {
	ctx, stop := context.WithCancelCause(access.With(s.ctx, r.caller))
	run := &replayed{who: r.caller.Name, form: form, stop: stop, begun: s.now()}
	id := nuid.Next()
	s.mu.Lock()
	busy := s.forget()
	if busy {
		s.mu.Unlock()
		stop(nil)
		return "", connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d replays are under way on this console; wait until one has ended", maxReplays))
	}
	s.byID[id] = run
	s.mu.Unlock()
	stream, err := s.api.deadLetters.ReplayDeadLetters(ctx, connect.NewRequest(ask))
	if err == nil && !stream.Receive() {
		if err = stream.Err(); err == nil {
			err = errors.New("the replay ended without a word")
		}
		_ = stream.Close()
	}
	if err != nil {
		s.mu.Lock()
		delete(s.byID, id)
		s.mu.Unlock()
		stop(nil)
		return "", err
	}
	s.note(run, stream.Msg())
	s.all.Go(func() {
		defer stop(nil)
		for stream.Receive() {
			s.note(run, stream.Msg())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		run.ended = s.now()
		if err := stream.Err(); err != nil && !run.last.GetProgress().GetDone() {
			run.err = told(cmp.Or(context.Cause(ctx), err))
		}
		_ = stream.Close()
	})
	return id, nil
}

// forget makes room, and reports whether there is none.
func (s *replays) forget() (full bool) {
	under := 0
	for id, run := range s.byID {
		switch {
		case run.ended.IsZero():
			under++
		case s.now().Sub(run.ended) > keepReplay || len(s.byID) >= 2*maxReplays:
			delete(s.byID, id)
		}
	}
	return under >= maxReplays
}

const maxFailuresShown = 20

func (s *replays) note(run *replayed, m *adminv1.ReplayDeadLettersResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run.last = m
	for _, f := range m.GetProgress().GetFailures() {
		if len(run.failures) < maxFailuresShown {
			run.failures = append(run.failures, f)
		}
	}
}

// replayPage is how far a replay is.
type replayPage struct {
	ID       string
	Who      string
	Back     string
	Last     *adminv1.ReplayDeadLettersResponse
	Failures []*adminv1.ReplayFailure
	Begun    *timestamppb.Timestamp
	// Left is how long it will take at the present pace; nil if that isn't known.
	Left  *durationpb.Duration
	Over  bool
	Error string
}

func (p *Pages) progress(r *request) error {
	page, ok := p.replays.page(r.PathValue("id"))
	if !ok {
		return missing("no replay was begun here under this id, or it is over for longer than an hour; the audit records know it")
	}
	refresh := 1
	if page.Over {
		refresh = 0
	}
	return r.show("replay.html", frame{Title: "Replay", Path: "/dead-letters", Refresh: refresh, Data: page})
}

func (s *replays) page(id string) (replayPage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run, ok := s.byID[id]
	if !ok {
		return replayPage{}, false
	}
	page := replayPage{
		ID: id, Who: run.who, Back: run.form.Back(), Last: run.last, Failures: slices.Clone(run.failures),
		Begun: timestamppb.New(run.begun), Over: !run.ended.IsZero(), Error: run.err,
	}
	pr := run.last.GetProgress()
	gone := pr.GetReplayed() + pr.GetSkipped() + pr.GetFailed()
	if spent := s.now().Sub(run.begun); !page.Over && gone > 0 && gone < pr.GetPlanned() {
		page.Left = durationpb.New(time.Duration(float64(spent) / float64(gone) * float64(pr.GetPlanned()-gone)))
	}
	return page, true
}

// stopReplay ends a replay; what was sent stays sent. No method of the admin API
// does that, so that its record is made here, and that of the replay says who it was.
func (p *Pages) stopReplay(r *request) error {
	if !r.Operator() {
		return connect.NewError(connect.CodePermissionDenied, errors.New("stopping a replay wants the role operator"))
	}
	id := r.PathValue("id")
	p.replays.mu.Lock()
	run, ok := p.replays.byID[id]
	over := ok && !run.ended.IsZero()
	p.replays.mu.Unlock()
	switch {
	case !ok:
		return missing("no such replay")
	case over:
		return r.see("/replays/" + id)
	}
	begun, err := auditlog.Begin(r.Context(), p.deps.JetStream, auditlog.Record{
		Who: r.caller.Name, Address: r.caller.Address, Method: "Pages.StopReplay",
		Request: fmt.Sprintf(`{"replay":%q,"begunBy":%q}`, id, run.who),
	})
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("nothing was done: %w", err))
	}
	run.stop(connect.NewError(connect.CodeCanceled, fmt.Errorf("stopped by %s", r.caller.Name)))
	if err := begun.End(r.Context(), auditlog.Done, ""); err != nil {
		p.deps.Log.LogAttrs(r.Context(), slog.LevelError, "the end of an operator's action is not recorded", slog.String("action", begun.ID), slog.Any("err", err))
	}
	return r.see("/replays/" + id)
}

// told is what an error of the admin API says.
func told(err error) string {
	var e *connect.Error
	if errors.As(err, &e) {
		return e.Message()
	}
	return err.Error()
}

// missing says that something isn't there.
func missing(format string, args ...any) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf(format, args...))
}
