package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// ask asks a served API for a path, and reads at most a megabyte.
func ask(ctx context.Context, base, path string) (status int, h http.Header, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header, string(b), err
}

func TestTheAPIFailsAsItIsTold(t *testing.T) {
	t.Parallel()
	type got struct {
		status int
		header http.Header
		body   string
		err    error
	}
	id := func(body string) (id string, err error) {
		var r struct{ ID string }
		err = json.Unmarshal([]byte(body), &r)
		return r.ID, err
	}
	tests := map[simulator.Failure]func(got, string) bool{
		simulator.FailSlowDown:         func(g got, _ string) bool { return g.status == 429 && g.header.Get("Retry-After") == "1" },
		simulator.FailSlowDownSilently: func(g got, _ string) bool { return g.status == 429 && g.header.Get("Retry-After") == "" },
		simulator.FailBroken:           func(g got, _ string) bool { return g.status == 500 },
		simulator.FailRefused:          func(g got, _ string) bool { return g.status == 422 },
		simulator.FailHang:             func(g got, _ string) bool { return errors.Is(g.err, context.DeadlineExceeded) },
		simulator.FailReset:            func(g got, _ string) bool { return errors.Is(g.err, syscall.ECONNRESET) || errors.Is(g.err, io.EOF) },
		simulator.FailNotJSON:          func(g got, _ string) bool { return g.status == 200 && g.err == nil && !json.Valid([]byte(g.body)) },
		simulator.FailTruncated: func(g got, whole string) bool {
			return g.status == 200 && g.err == nil && g.body == whole[:len(whole)/2]
		},
		simulator.FailCutOff: func(g got, whole string) bool {
			return g.status == 200 && errors.Is(g.err, io.ErrUnexpectedEOF) && g.body == whole[:len(whole)/2]
		},
		simulator.FailPage: func(g got, _ string) bool { return g.status == 200 && g.body[0] == '<' },
		simulator.FailMistaken: func(g got, whole string) bool {
			mine, err := id(whole)
			other, err2 := id(g.body)
			return g.status == 200 && errors.Join(err, err2) == nil && other != "" && other != mine
		},
		simulator.FailEndless: func(g got, _ string) bool { return g.status == 200 && len(g.body) == 1<<20 },
	}
	for _, how := range simulator.Failures() {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, simulator.Config{Events: 40})
			run(t, p, newReceiver(t))
			srv := httptest.NewServer(p)
			defer srv.Close()
			for _, path := range []string{"/orders/ord_000001", "/customers/cus_00002"} {
				_, _, whole, err := ask(t.Context(), srv.URL, path)
				if err != nil {
					t.Fatal(err)
				}
				p.Fail(how, 1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if how == simulator.FailHang {
					ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
				}
				var g got
				g.status, g.header, g.body, g.err = ask(ctx, srv.URL, path)
				cancel()
				if ok := tests[how]; ok == nil || !ok(g, whole) {
					t.Errorf("%s: %d %v %.80q, %v", path, g.status, g.header, g.body, g.err)
				}
				p.Fail("", 0)
				if _, _, again, err := ask(t.Context(), srv.URL, path); err != nil || again != whole {
					t.Errorf("%s, well again: %q, %v", path, again, err)
				}
			}
		})
	}
	if len(tests) != len(simulator.Failures()) {
		t.Errorf("%d of %d failures are tested", len(tests), len(simulator.Failures()))
	}
}

// A list that is mistaken is no list.
func TestAMistakenListIsARecord(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Events: 40})
	run(t, p, newReceiver(t))
	p.Fail(simulator.FailMistaken, 1)
	var page list
	if status, _, body := get(p, "/orders"); status != http.StatusOK || json.Unmarshal([]byte(body), &page) != nil || page.Orders != nil {
		t.Errorf("GET /orders: %d %s", status, body)
	}
}

func TestAShareFails(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Budget: 1000, Seed: 3})
	p.Fail(simulator.FailBroken, 0.5)
	statuses := map[int]int{}
	for range 200 {
		status, _, _ := get(p, "/orders")
		statuses[status]++
	}
	if statuses[200] < 60 || statuses[500] < 60 {
		t.Errorf("statuses %v, want about half of each 200 and 500", statuses)
	}
}

// A token is checked by an API that fails, too: nothing of it is shown.
func TestGarbageIsMadeOfAnswersOnly(t *testing.T) {
	t.Parallel()
	p := newProvider(t, simulator.Config{Events: 40})
	p.Fail(simulator.FailTruncated, 1)
	if status, _, body := get(p, "/orders/ord_nope"); status != http.StatusNotFound || !json.Valid([]byte(body)) {
		t.Errorf("GET of no order: %d %s", status, body)
	}
}
