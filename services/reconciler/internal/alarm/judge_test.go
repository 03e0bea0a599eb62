package alarm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/report"
	"github.com/tercelhq/tercel/services/reconciler/internal/alarm"
)

// A silence is probed at once and again while it lasts, is an alarm once records
// are known to have changed, and ends with the next event.
func TestSilenceIsProbedThenAlarmedThenCleared(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time { return monday.Add(time.Duration(minutes) * time.Minute) }
	silent := func(now, last, missed int) alarm.Sight {
		return alarm.Sight{Now: at(now), Last: at(last), Known: true, Silent: true, Missed: missed}
	}
	was := func(since, probed, alarmed int) *cursor.Silence {
		s := &cursor.Silence{Since: at(since), ProbedAt: at(probed)}
		if alarmed > 0 {
			s.AlarmedAt, s.Missed = at(alarmed), 1
		}
		return s
	}
	more := func(s *cursor.Silence, missed int) *cursor.Silence {
		s.Missed = missed
		return s
	}
	tests := map[string]struct {
		was   *cursor.Silence
		sight alarm.Sight
		deed  string
		next  *cursor.Silence
	}{
		"as usual":                                  {nil, alarm.Sight{Now: at(9), Last: at(8), Known: true}, "", nil},
		"silent, nothing known":                     {nil, silent(30, 0, 0), "probe", was(0, 30, 0)},
		"probed a moment ago":                       {was(0, 30, 0), silent(31, 0, 0), "", was(0, 30, 0)},
		"probed an hour ago":                        {was(0, 30, 0), silent(90, 0, 0), "probe", was(0, 90, 0)},
		"the probe found gaps":                      {was(0, 30, 0), silent(32, 0, 1), "raised", was(0, 30, 32)},
		"others had found gaps":                     {nil, silent(30, 0, 1), "probe raised", was(0, 30, 30)},
		"an alarm goes on":                          {was(0, 30, 32), silent(33, 0, 1), "", was(0, 30, 32)},
		"and is probed":                             {was(0, 30, 32), silent(95, 0, 1), "probe", was(0, 95, 32)},
		"and more is found":                         {was(0, 30, 32), silent(33, 0, 3), "", more(was(0, 30, 32), 3)},
		"reports of it have gone":                   {was(0, 30, 32), silent(33, 0, 0), "", was(0, 30, 32)},
		"events come again":                         {was(0, 30, 32), alarm.Sight{Now: at(40), Last: at(39), Known: true}, "cleared", nil},
		"as it was no alarm":                        {was(0, 30, 0), alarm.Sight{Now: at(40), Last: at(39), Known: true}, "", nil},
		"and stop again":                            {was(0, 30, 32), silent(200, 39, 0), "cleared probe", was(39, 200, 0)},
		"what is usual is forgotten while it lasts": {was(0, 30, 32), alarm.Sight{Now: at(50)}, "", was(0, 30, 32)},
		"too few to learn":                          {nil, alarm.Sight{Now: at(50), Last: at(1)}, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next, deed := alarm.Judge(tt.was, tt.sight, time.Hour)
			if deed != tt.deed {
				t.Errorf("does %q, want %q", deed, tt.deed)
			}
			if (next == nil) != (tt.next == nil) || next != nil && (!next.Since.Equal(tt.next.Since) || !next.ProbedAt.Equal(tt.next.ProbedAt) ||
				!next.AlarmedAt.Equal(tt.next.AlarmedAt) || next.Missed != tt.next.Missed) {
				t.Errorf("silence %+v, want %+v", next, tt.next)
			}
		})
	}
}

func TestOnlyWhatChangedInTheSilenceCounts(t *testing.T) {
	t.Parallel()
	after := monday.Add(time.Minute)
	tests := map[string]struct {
		records []report.Record
		want    int
		advice  string // a part of it
	}{
		"nothing":                       {nil, 0, ""},
		"changed since":                 {[]report.Record{{ID: "a", Verdict: "missed", ChangedAt: after, Cause: report.Silent}}, 1, "at the provider"},
		"stale, changed since":          {[]report.Record{{ID: "a", Verdict: "stale", ChangedAt: after}}, 1, "at the provider"},
		"changed before":                {[]report.Record{{ID: "a", Verdict: "missed", ChangedAt: monday, Cause: report.Silent}}, 0, ""},
		"one that doesn't say":          {[]report.Record{{ID: "a", Verdict: "missed", Cause: report.NeverSent}}, 0, ""},
		"but nothing came":              {[]report.Record{{ID: "a", Verdict: "missed", Cause: report.Silent}}, 1, "at the provider"},
		"and nobody was there":          {[]report.Record{{ID: "a", Verdict: "missed", Cause: report.Down}}, 1, "no ingress took requests"},
		"refused":                       {[]report.Record{{ID: "a", Verdict: "missed", ChangedAt: after, Cause: report.Refused}}, 1, "were refused"},
		"missed at a destination alone": {[]report.Record{{ID: "a", Verdict: "missed", ChangedAt: after, Destination: "w"}}, 0, ""},
		"unreadable":                    {[]report.Record{{ID: "a", Verdict: report.Unreadable, ChangedAt: after}}, 0, ""},
		"twice":                         {[]report.Record{{ID: "a", Version: "1", Verdict: "missed", ChangedAt: after}, {ID: "a", Version: "1", Verdict: "missed", ChangedAt: after}}, 1, ""},
		"in two versions":               {[]report.Record{{ID: "a", Version: "1", Verdict: "missed", ChangedAt: after}, {ID: "a", Version: "2", Verdict: "stale", ChangedAt: after}}, 2, ""},
		"most of them": {[]report.Record{
			{ID: "a", Verdict: "missed", ChangedAt: after, Cause: report.Silent},
			{ID: "b", Verdict: "missed", ChangedAt: after, Cause: report.Down},
			{ID: "c", Verdict: "missed", ChangedAt: after, Cause: report.Down},
		}, 3, "no ingress took requests"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, advice := alarm.MissedSince([]report.Report{{Resource: "order", Records: tt.records}, {Resource: "order", Records: tt.records}}, monday)
			if n != tt.want || !strings.Contains(advice, tt.advice) {
				t.Errorf("%d records, %q; want %d, %q", n, advice, tt.want, tt.advice)
			}
		})
	}
}

func TestShareOfRefusedRequests(t *testing.T) {
	t.Parallel()
	c := pipeline.Refused{Share: 0.2, Least: 20}
	was := &cursor.Refused{Since: monday}
	tests := map[string]struct {
		was     *cursor.Refused
		all     int64
		refused int64
		deed    string
		on      bool
	}{
		"none":                          {nil, 1000, 0, "", false},
		"the share itself":              {nil, 1000, 200, "", false},
		"more":                          {nil, 1000, 201, "raised", true},
		"all of too few":                {nil, 19, 19, "", false},
		"all of enough":                 {nil, 20, 20, "raised", true},
		"it goes on":                    {was, 1000, 201, "", true},
		"it goes on with few":           {was, 10, 9, "", true},
		"no more than the share":        {was, 1000, 200, "cleared", false},
		"nothing comes at all any more": {was, 0, 0, "cleared", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reasons := map[string]int64{"refused_signature": tt.refused - 1, "unavailable": 1}
			if tt.refused == 0 {
				reasons = nil
			}
			now := monday.Add(time.Hour)
			next, deed := alarm.Refusals(tt.was, now, tt.all, reasons, c)
			if deed != tt.deed || (next != nil) != tt.on {
				t.Fatalf("%+v, does %q; want an alarm: %t, %q", next, deed, tt.on, tt.deed)
			}
			if next == nil {
				return
			}
			since := now
			if tt.was != nil {
				since = monday
			}
			if !next.Since.Equal(since) || next.Requests != tt.all || next.Reasons["refused_signature"] != tt.refused-1 {
				t.Errorf("alarm %+v", next)
			}
		})
	}
}
