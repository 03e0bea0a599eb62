package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	reports "github.com/tercelhq/tercel/pkg/report"
)

// runResult is what a run of the reconciler cost, beside what a process at rest
// does in that time.
type runResult struct {
	Name      string        `json:"name"`
	Ledger    int           `json:"ledger"`
	Listed    int           `json:"listed"`
	Took      time.Duration `json:"took"`
	PerSecond float64       `json:"records_per_second"`
	Calls     float64       `json:"api_calls"`
	Requests  float64       `json:"jetstream_requests"`
	Stored    float64       `json:"messages_stored"`
	Peak      float64       `json:"peak_mib"`
	Server    float64       `json:"server_peak_mib"`
}

// fleetResult is what many accounts of one source cost.
type fleetResult struct {
	Accounts     int           `json:"accounts"`
	Spread       time.Duration `json:"spread"`
	AtOnce       int           `json:"most_calls_at_once"`
	InASecond    int           `json:"most_calls_in_a_second"`
	RestRequests float64       `json:"jetstream_requests_per_second_at_rest"`
	RestStored   float64       `json:"messages_stored_per_second_at_rest"`
	Peak         float64       `json:"peak_mib"`
}

const runFile = `
sources:
  %[1]s:
    preset: standard-webhooks
    secrets: [env:BENCH_SECRET]
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
streams: {durability: relaxed}
telemetry: {listen: %[6]q, sample: 0.01, log_level: error}
`

// lister is an API that lists those of n records that were seen, or none to whoever asks since a time.
type lister struct {
	n, page int

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

func (r *reconciliations) costs(ctx context.Context, l *lister) (cost, error) {
	info, err := r.js.AccountInfo(ctx)
	if err != nil {
		return cost{}, err
	}
	c := cost{at: time.Now(), requests: info.API.Total}
	for s := range r.js.ListStreams(ctx).Info() {
		c.stored += s.State.LastSeq
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.calls = l.calls
	return c, nil
}

// own is how many JetStream requests costs itself makes.
const own = 2

// startReconciler starts the reconciler on a source that l lists.
func (r *reconciliations) startReconciler(source, accounts, api, list, every string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.dir, source+".yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, runFile, source, accounts, api, list, every, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(r.reconciler, "-c", file, "--nats", r.url)
	cmd.Env = append(os.Environ(), "BENCH_SECRET=whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaw==")
	return start(cmd, addr)
}

// quietRuns is how many runs that find nothing are counted.
const quietRuns = 5

// wholeRuns measures the reconciler: a run that lists everything, and runs that
// find nothing.
func (r *reconciliations) wholeRuns(ctx context.Context, n int) error {
	l := &lister{n: n, page: 500}
	api := httptest.NewServer(l)
	defer api.Close()
	told := make(chan *nats.Msg, 1000)
	sub, err := r.js.Conn().ChanSubscribe("tercel.reports."+sized(n)+".order", told)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	before, err := r.costs(ctx, l)
	if err != nil {
		return err
	}
	r.server.resetPeak()
	p, err := r.startReconciler(sized(n), "", api.URL, "/orders", "3s")
	if err != nil {
		return err
	}
	defer p.stop()
	for i := range 1 + quietRuns {
		rep, err := nextReport(ctx, told)
		if err != nil {
			return err
		}
		after, err := r.costs(ctx, l)
		if err != nil {
			return err
		}
		if i == 0 && rep.Matched != n-n/1000 || rep.Missed > 0 || !rep.Complete {
			return fmt.Errorf("run %d: counts %+v of %d records", i, rep.Counts, n)
		}
		if i == 0 || i == quietRuns {
			u := runResult{Name: "all listed", Ledger: n, Listed: rep.Listed, Took: rep.EndedAt.Sub(rep.StartedAt), Peak: p.peakMiB()}
			runs := 1.0
			if i > 0 {
				u.Name, runs = "nothing found", quietRuns
			}
			u.PerSecond = float64(rep.Listed) / u.Took.Seconds()
			u.Calls, u.Requests = float64(after.calls-before.calls)/runs, float64(after.requests-before.requests)/runs-own
			u.Stored, u.Server = float64(after.stored-before.stored)/runs, r.server.peakMiB()
			r.server.resetPeak()
			r.result.Runs = append(r.result.Runs, u)
			before = after
		}
	}
	return nil
}

func nextReport(ctx context.Context, told <-chan *nats.Msg) (rep reports.Report, err error) {
	select {
	case m := <-told:
		return rep, json.Unmarshal(m.Data, &rep)
	case <-time.After(5 * time.Minute):
		return rep, fmt.Errorf("no report within five minutes")
	case <-ctx.Done():
		return rep, ctx.Err()
	}
}

const (
	accounts = 1000
	restTime = 20 * time.Second
)

// fleet measures many accounts of one source, of which none has anything to
// tell: how their first runs are spread, and what they cost at rest.
func (r *reconciliations) fleet(ctx context.Context) error {
	l := &lister{page: 500}
	api := httptest.NewServer(l)
	defer api.Close()
	told := make(chan *nats.Msg, 2*accounts)
	sub, err := r.js.Conn().ChanSubscribe("tercel.reports.fleet.order", told)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	names := make([]string, accounts)
	for i := range names {
		names[i] = fmt.Sprint("acct", i)
	}
	p, err := r.startReconciler("fleet", "accounts: ["+strings.Join(names, ", ")+"]", api.URL, "/{account}/orders", "1h")
	if err != nil {
		return err
	}
	defer p.stop()
	for range accounts {
		if _, err := nextReport(ctx, told); err != nil {
			return err
		}
	}
	before, err := r.costs(ctx, l)
	if err != nil {
		return err
	}
	time.Sleep(restTime)
	after, err := r.costs(ctx, l)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := fleetResult{Accounts: accounts, Spread: l.last.Sub(l.first), AtOnce: l.most, Peak: p.peakMiB()}
	for _, n := range l.seconds {
		f.InASecond = max(f.InASecond, n)
	}
	span := after.at.Sub(before.at).Seconds()
	f.RestRequests, f.RestStored = float64(after.requests-before.requests-own)/span, float64(after.stored-before.stored)/span
	r.result.Fleet = f
	return nil
}
