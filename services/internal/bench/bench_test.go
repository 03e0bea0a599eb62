package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A receiver that lets a forgery in, or refuses what is genuine, makes the run
// fail.
func TestTrafficIsProved(t *testing.T) {
	t.Parallel()
	honest := func(r *http.Request, body []byte) int {
		if genuine(r.Header, body) {
			return http.StatusOK
		}
		return http.StatusUnauthorized
	}
	tests := map[string]struct {
		answer func(r *http.Request, body []byte) int
		wrong  func(o outcome) bool
	}{
		"an honest one":            {honest, func(o outcome) bool { return o.wrong != 0 || o.forgeries == 0 || o.repeats == 0 }},
		"one that lets all in":     {func(*http.Request, []byte) int { return http.StatusOK }, func(o outcome) bool { return o.wrong == 0 }},
		"one that refuses all":     {func(*http.Request, []byte) int { return http.StatusForbidden }, func(o outcome) bool { return o.wrong == 0 }},
		"one that is out of order": {func(*http.Request, []byte) int { return http.StatusInternalServerError }, func(o outcome) bool { return o.wrong == 0 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := overOne(t, tt.answer, 2000)
			if err != nil {
				t.Fatal(err)
			}
			if tt.wrong(o) {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// overOne sends so many requests over one connection.
func overOne(t *testing.T, answer func(*http.Request, []byte) int, n int) (o outcome, err error) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(answer(r, body))
	}))
	t.Cleanup(srv.Close)
	s, err := dial(t.Context(), strings.TrimPrefix(srv.URL, "http://"), providers)
	if err != nil {
		return o, err
	}
	defer func() { _ = s.conn.Close() }()
	for range n {
		if err := s.sendOne(&o, time.Now()); err != nil {
			return o, err
		}
	}
	return o, nil
}

// While a receiver stands still, what falls due meanwhile waits, and that counts.
func TestOfferedTrafficCountsFromWhenItWasDue(t *testing.T) {
	t.Parallel()
	const pause = 500 * time.Millisecond
	first := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			time.Sleep(pause)
		}
		body, _ := io.ReadAll(r.Body)
		if !genuine(r.Header, body) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(srv.Close)
	o, err := traffic{targets: providers, connections: 1, rate: 500, length: 2 * pause}.send(t.Context(), strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, l := range o.latencies {
		if l > pause/2 {
			late++
		}
	}
	if late < 50 { // about 125 are due in the first half of the pause
		t.Errorf("%d of %d requests waited for long, want at least 50", late, len(o.latencies))
	}
}

func TestArrivalsAreProved(t *testing.T) {
	t.Parallel()
	one, two := dueID(time.Now(), "1"), dueID(time.Now(), "2")
	tests := map[string]struct {
		ids  []string
		fine bool
	}{
		"each once": {[]string{one, two}, true}, "one twice": {[]string{one, two, one}, false}, "a stranger": {[]string{one, "evt-7"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := arrivals{ids: map[string]bool{}}
			for _, id := range tt.ids {
				a.add(id)
			}
			if got := a.wrong == nil; got != tt.fine {
				t.Errorf("fine = %t (%v), want %t", got, a.wrong, tt.fine)
			}
		})
	}
}

func TestMeasureReportsMediansAndRatiosOfRounds(t *testing.T) {
	t.Parallel()
	turns := func(rates ...float64) func(context.Context) (figures, error) {
		return func(context.Context) (figures, error) {
			f := figures{Rate: rates[0], CPU: 10}
			rates = rates[1:]
			return f, nil
		}
	}
	s := &stand{lab: &lab{scenario: "ingress"}, level: relaxed}
	rows, err := s.measure(t.Context(), "a case", 3, subject{"tercel", turns(1, 10, 30, 20)}, subject{"bare", turns(1, 20, 30, 80)})
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].Rate != 20 || rows[0].Ratio != nil || rows[1].Rate != 30 || rows[1].Ratio.Rate != 0.5 || rows[1].Ratio.CPU != 1 {
		t.Errorf("rows %+v, ratio %+v", rows, rows[1].Ratio)
	}
	text := s.report.markdown()
	for _, want := range []string{"### ingress", "| events/s", "| 0.50×", "| a case"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "peak MiB") {
		t.Errorf("a column that nothing was measured for in %s", text)
	}
	if got := s.report.summary(); !strings.Contains(got, "0.50×, 1.00×") || strings.Contains(got, "bare") {
		t.Errorf("summary %s", got)
	}
	failed := subject{"tercel", func(context.Context) (figures, error) { return figures{}, errors.New("an event is missing") }}
	if _, err := s.measure(t.Context(), "a case", 1, failed); err == nil || !strings.Contains(err.Error(), "an event is missing") {
		t.Errorf("measure() = %v, want what the turn found", err)
	}
}

func TestReplaceInKeepsWhatStandsAround(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceIn(file, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if want := "before\n" + beginMark + "\nnew\n\n" + endMark + "after\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := replaceIn(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("replaceIn() = nil, want what is missing")
	}
}

// The documents that the program writes into have its marks, and what it is asked
// for exists.
func TestDocumentsHaveMarks(t *testing.T) {
	t.Parallel()
	for _, file := range documents {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", file))
		if err != nil || strings.Count(string(text), beginMark) != 1 || strings.Count(string(text), endMark) != 1 {
			t.Errorf("%s has not one of each mark, %v", file, err)
		}
	}
	if _, err := choose([]string{"ingress", "nothing"}); err == nil || !strings.Contains(err.Error(), "way") {
		t.Errorf("choose() = %v, want the scenarios there are", err)
	}
	all, err := choose(nil)
	if err != nil || !slices.ContainsFunc(all, func(s named) bool { return s.name == "window" }) {
		t.Errorf("choose() = %v, %v, want all", all, err)
	}
}
