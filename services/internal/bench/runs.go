package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	reports "github.com/tercelhq/tercel/pkg/report"
)

const runFile = `
sources:
  %[1]s:
    preset: standard-webhooks
    secrets: [env:BENCH_KEY]
    %[2]s
    api: {base: %[3]q, allow_private: true, concurrency: 8}
    resources:
      order:
        triggers: [order.*]
        id: body.id
        get: "/orders/{id}"
        version: record.updated_at
        reconcile: {list: %[4]q, since: since, order: ascending, items: orders, next: next, every: %[5]s, overlap: 1s, settle: 1s}
reconciler: {repair_rate: 100000}
`

// lister is an API that lists those of n records that were seen, or none to whoever asks since a time.
type lister struct {
	n, page int
	// open, if set, is closed when the API begins to answer.
	open chan struct{}

	mu      sync.Mutex // guards those below
	calls   int
	now     int
	most    int
	seconds map[int64]int
	first   time.Time
	last    time.Time // of the first calls of accounts
	known   map[string]bool
}

func (l *lister) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.open != nil {
		<-l.open
	}
	l.begin(r.URL.Path)
	defer l.end()
	at, _ := strconv.Atoi(r.FormValue("next"))
	end := min(at+l.page, l.n)
	if r.FormValue("since") != "" {
		at, end = 0, 0
	}
	var b strings.Builder
	b.WriteString(`{"orders":[`)
	for i, comma := at, ""; i < end; i++ {
		if unseen(i) {
			continue
		}
		b.WriteString(comma)
		comma = ","
		fmt.Fprintf(&b, `{"id":%q,"updated_at":%q,"customer":"cus_%d","total":{"amount":%d,"currency":"EUR"}}`, listedID(i),
			listedAt(i).UTC().Format(time.RFC3339), i%5000, i)
	}
	b.WriteString("]")
	if end < l.n && end > at {
		fmt.Fprintf(&b, `,"next":"%d"`, end)
	}
	b.WriteString("}")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(b.String()))
}

func (l *lister) begin(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.known[path] {
		if len(l.known) == 0 {
			l.known, l.seconds, l.first = map[string]bool{}, map[int64]int{}, now
		}
		l.known[path], l.last = true, now
	}
	l.calls++
	l.now++
	l.seconds[now.Unix()]++
	l.most = max(l.most, l.now)
}

func (l *lister) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
}

// cost is what was done up to a moment.
type cost struct {
	at               time.Time
	calls            int
	requests, stored uint64
}

// own is how many JetStream requests costs itself makes.
const own = 2

func (l *lister) costs(ctx context.Context, s *stand) (cost, error) {
	info, err := s.js.AccountInfo(ctx)
	if err != nil {
		return cost{}, err
	}
	c := cost{at: time.Now(), requests: info.API.Total}
	for stream := range s.js.ListStreams(ctx).Info() {
		c.stored += stream.State.LastSeq
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.calls = l.calls
	return c, nil
}

// since is what was done for each of n, as it is reported.
func (c cost) since(before cost, n int) []extra {
	each := func(x float64) float64 { return x / float64(n) }
	return []extra{
		{"API calls", each(float64(c.calls - before.calls)), ""},
		{"JetStream requests", each(float64(c.requests-before.requests) - own), ""},
		{"messages stored", each(float64(c.stored - before.stored)), ""},
	}
}

// reported is the reports of a source's runs.
func (s *stand) reported(source string) (next func(context.Context) (reports.Report, error), stop func(), err error) {
	told := make(chan *nats.Msg, 2*accounts)
	sub, err := s.nc.ChanSubscribe("tercel.reports."+source+".order", told)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (rep reports.Report, err error) {
		select {
		case m := <-told:
			return rep, json.Unmarshal(m.Data, &rep)
		case <-time.After(fillTime):
			return rep, errors.New("no report within " + fillTime.String())
		case <-ctx.Done():
			return rep, ctx.Err()
		}
	}, func() { _ = sub.Unsubscribe() }, nil
}

// quietRuns is how many runs that find nothing are counted together.
const quietRuns = 5

// wholeRuns measures the reconciler: a run that lists everything, and runs that
// find nothing new.
func (r reconciliation) wholeRuns(ctx context.Context, s *stand, n int) error {
	l := &lister{n: n, page: 500, open: make(chan struct{})}
	api := httptest.NewServer(l)
	defer api.Close()
	open := sync.OnceValue(func() time.Time { close(l.open); return time.Now() })
	defer open()
	next, unsubscribe, err := s.reported(sized(n))
	if err != nil {
		return err
	}
	defer unsubscribe()
	before, err := l.costs(ctx, s)
	if err != nil {
		return err
	}
	p, err := s.service(ctx, "reconciler", fmt.Sprintf(runFile, sized(n), "", api.URL, "/orders", "3s"))
	if err != nil {
		return err
	}
	defer stop(p)
	for _, c := range []struct {
		name string
		runs int
	}{{"a run that lists all", 1}, {"a run that finds nothing new", quietRuns}} {
		_, err := s.measure(ctx, fmt.Sprintf("%d records, %s", n, c.name), 1, subject{"reconciler", func(ctx context.Context) (figures, error) {
			read, err := s.meter(p)
			if err != nil {
				return figures{}, err
			}
			opened := open() // only now, so that all of the first run is measured
			var rep reports.Report
			for range c.runs {
				if rep, err = next(ctx); err != nil {
					return figures{}, err
				}
			}
			if c.runs == 1 && rep.Matched != n-n/1000 || rep.Missed > 0 || !rep.Complete {
				return figures{}, fmt.Errorf("counts %+v of %d records", rep.Counts, n)
			}
			took := min(rep.EndedAt.Sub(rep.StartedAt), rep.EndedAt.Sub(opened))
			f, err := read(max(rep.Listed, 1), took)
			if err != nil {
				return figures{}, err
			}
			after, err := l.costs(ctx, s)
			if err != nil {
				return figures{}, err
			}
			f.Extra = append(after.since(before, c.runs), extra{"took", took.Seconds() * 1e3, "ms"})
			before = after
			if c.runs > 1 {
				f.Rate, f.CPU, f.Own = 0, 0, 0 // of next to nothing
			}
			s.report.Verified.add(verified{Compared: rep.Listed})
			return f, nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	accounts = 1000
	restTime = 15 * time.Second
)

// fleet measures many accounts of one source, of which none has anything to
// tell: how their first runs are spread, and what they cost at rest.
func (r reconciliation) fleet(ctx context.Context, s *stand) error {
	l := &lister{page: 500}
	api := httptest.NewServer(l)
	defer api.Close()
	next, unsubscribe, err := s.reported("fleet")
	if err != nil {
		return err
	}
	defer unsubscribe()
	names := make([]string, s.size(accounts, accounts/10))
	for i := range names {
		names[i] = fmt.Sprint("acct", i)
	}
	_, err = s.measure(ctx, fmt.Sprintf("%d accounts at rest", len(names)), 1, subject{"reconciler", func(ctx context.Context) (figures, error) {
		p, err := s.service(ctx, "reconciler", fmt.Sprintf(runFile, "fleet", "accounts: ["+strings.Join(names, ", ")+"]", api.URL, "/{account}/orders", "1h"))
		if err != nil {
			return figures{}, err
		}
		defer stop(p)
		for range names {
			if _, err := next(ctx); err != nil {
				return figures{}, err
			}
		}
		before, err := l.costs(ctx, s)
		if err != nil {
			return figures{}, err
		}
		read, err := s.meter(p)
		if err != nil {
			return figures{}, err
		}
		select {
		case <-time.After(restTime):
		case <-ctx.Done():
			return figures{}, ctx.Err()
		}
		after, err := l.costs(ctx, s)
		if err != nil {
			return figures{}, err
		}
		f, err := read(0, restTime)
		if err != nil {
			return figures{}, err
		}
		seconds := int(restTime.Seconds())
		return figures{Peak: f.Peak, ServerPeak: f.ServerPeak, Extra: append(l.spread(), after.since(before, seconds)[1:]...)}, nil
	}})
	return err
}

// spread is how the first runs were spread.
func (l *lister) spread() []extra {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := 0
	for _, n := range l.seconds {
		most = max(most, n)
	}
	return []extra{
		{"first runs within", l.last.Sub(l.first).Seconds(), "s"},
		{"most API calls at once", float64(l.most), ""},
		{"in a second", float64(most), ""},
	}
}
