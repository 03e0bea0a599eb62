package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// get asks the API and returns status, header and body.
func get(p *simulator.Provider, path string) (int, http.Header, string) {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, req)
	return w.Code, w.Header(), w.Body.String()
}

type list struct {
	Orders []struct {
		ID        string    `json:"id"`
		UpdatedAt time.Time `json:"updated_at"`
	} `json:"orders"`
	NextCursor *string `json:"next_cursor"`
}

// all lists from a time on, page by page.
func all(t *testing.T, p *simulator.Provider, since time.Time, limit int) (ids []string) {
	t.Helper()
	path := "/orders?limit=" + strconv.Itoa(limit) + "&updated_after=" + url.QueryEscape(since.Format(time.RFC3339Nano))
	last := since
	for {
		status, _, body := get(p, path)
		var page list
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, status, body)
		}
		for _, o := range page.Orders {
			if o.UpdatedAt.Before(last) {
				t.Fatalf("GET %s: %s was changed at %s, behind %s", path, o.ID, o.UpdatedAt, last)
			}
			last = o.UpdatedAt
			ids = append(ids, o.ID)
		}
		if page.NextCursor == nil {
			return ids
		}
		path = "/orders?limit=" + strconv.Itoa(limit) + "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
}

func TestListShowsEachLivingRecordOnceInOrder(t *testing.T) {
	t.Parallel()
	p := newProvider(t, mean)
	middle := run(t, p, newReceiver(t)).Changes[400].At
	check := func(name string, since time.Time, healed bool) {
		want := map[string]bool{}
		for id, r := range p.Newest() {
			if !r.Deleted && (healed || !r.Poisoned) && !r.UpdatedAt.Before(since) {
				want[id] = true
			}
		}
		for _, limit := range []int{7, 500} {
			got := all(t, p, since, limit)
			if len(got) != len(want) {
				t.Errorf("%s, limit %d: %d records, want %d", name, limit, len(got), len(want))
			}
			for _, id := range got {
				if !want[id] {
					t.Errorf("%s, limit %d: %s is listed", name, limit, id)
				}
			}
		}
	}
	check("from the beginning", time.Time{}, false)
	check("from a change on, itself included", middle, false)
	p.Heal()
	check("from the beginning, healed", time.Time{}, true)
}

func TestPagesMissNothingThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Events: 2000, Records: 200, Rate: 4000, Budget: 1_000_000})
	srv := httptest.NewServer(newReceiver(t))
	defer srv.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context(), srv.URL) }()
	lists := 0
	for running := true; running; lists++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		before := p.Newest()
		seen := map[string]bool{}
		for _, id := range all(t, p, time.Time{}, 10) {
			seen[id] = true
		}
		for id := range before {
			if !seen[id] {
				t.Fatalf("%s was there before the list began, and isn't in it", id)
			}
		}
	}
	if lists < 2 {
		t.Errorf("%d lists while records changed, want some", lists)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	p := newProvider(t, mean)
	run(t, p, newReceiver(t))
	var live, dead, poisoned string
	for id, r := range p.Newest() {
		switch {
		case r.Deleted:
			dead = id
		case r.Poisoned:
			poisoned = id
		default:
			live = id
		}
	}
	tests := map[string]struct {
		path string
		want int
	}{
		"an order":              {"/orders/" + live, 200},
		"a deleted order":       {"/orders/" + dead, 404},
		"a poisoned order":      {"/orders/" + poisoned, 422},
		"no such order":         {"/orders/ord_nope", 404},
		"a customer":            {"/customers/cus_00001", 200},
		"no such customer":      {"/customers/cus_99999", 404},
		"no such path":          {"/invoices/1", 404},
		"a bad time":            {"/orders?updated_after=yesterday", 400},
		"a bad cursor":          {"/orders?cursor=next", 400},
		"a limit of none":       {"/orders?limit=0", 400},
		"a limit over the most": {"/orders?limit=501", 400},
	}
	for name, tt := range tests {
		status, h, body := get(p, tt.path)
		if status != tt.want || h.Get("X-Ratelimit-Limit") != "2000" || h.Get("X-Ratelimit-Remaining") == "" {
			t.Errorf("%s: GET %s: %d %v %s, want %d and the rate limit's headers", name, tt.path, status, h, body, tt.want)
		}
	}
	if _, _, body := get(p, "/orders/"+live); body != string(p.Newest()[live].JSON) {
		t.Errorf("GET %s: %s, want what Newest has", live, body)
	}
	p.Heal()
	if status, _, _ := get(p, "/orders/"+poisoned); status != http.StatusOK {
		t.Errorf("GET of a poisoned order after Heal: %d, want 200", status)
	}
}

func TestTokenIsChecked(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{})
	for name, header := range map[string]string{"none": "", "wrong": "Bearer wrong", "another scheme": "Basic " + token} {
		req := httptest.NewRequest(http.MethodGet, "/orders", nil)
		req.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("token %s: %d, want 401", name, w.Code)
		}
	}
}

func TestBudgetIsPerSecond(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Budget: 3})
	var refused http.Header
	for range 8 { // the second may turn once meanwhile
		if status, h, _ := get(p, "/orders"); status == http.StatusTooManyRequests {
			refused = h
			break
		}
	}
	if refused == nil || refused.Get("Retry-After") != "1" || refused.Get("X-Ratelimit-Remaining") != "0" {
		t.Fatalf("8 requests on a budget of 3: headers of the refusal %v, want Retry-After: 1", refused)
	}
	reset, err := strconv.ParseInt(refused.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil || time.Until(time.Unix(reset, 0)) > time.Second {
		t.Errorf("X-Ratelimit-Reset: %q, want a time within a second", refused.Get("X-Ratelimit-Reset"))
	}
	eventually(t, "the budget is new", func() bool {
		status, _, _ := get(p, "/orders")
		return status == http.StatusOK
	})
}

func TestAShareIsUnavailable(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Unavailable: 0.5, Budget: 1000, Seed: 3})
	statuses := map[int]int{}
	for range 200 {
		status, _, _ := get(p, "/orders")
		statuses[status]++
	}
	if statuses[200] < 60 || statuses[503] < 60 {
		t.Errorf("statuses %v, want about half of each 200 and 503", statuses)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/orders")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d, want 401", resp.StatusCode)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
	case <-time.After(time.Minute):
		t.Error("Serve didn't end with its context")
	}
	if err := p.Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
