package e2e_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // reads the destination

	"github.com/tercelhq/tercel/services/internal/pgtest"
)

const (
	minifluxUser     = "admin"
	minifluxPassword = "a password for the test"
	minifluxSecret   = "a webhook secret of the test"
)

// Software that knows nothing of Tercel sends its webhooks: Miniflux, a feed
// reader, which sends each once and never again. What it sends while nobody
// listens is found in its list of entries.
func TestMiniflux(t *testing.T) {
	t.Parallel()
	feed := startFeed(t)
	ingressAddr := freeAddr(t)
	mf := startMiniflux(t, "http://"+ingressAddr+"/v1/reader")
	db := filepath.Join(t.TempDir(), "reader.db")
	config := filepath.Join(t.TempDir(), "tercel.yaml")
	write(t, config, fmt.Sprintf(`
sources:
  reader:
    preset: miniflux
    secrets: [env:READER_SECRET]
    api:
      base: %q
      basic: {user: %s, password: env:READER_PASSWORD}
      allow_private: true
    resources:
      entry:
        related: {feed: "/v1/feeds/{record.feed_id}"}
        reconcile: {list: /v1/entries, every: 2s, settle: 1s, overlap: 5s}
destinations:
  database: {sqlite: {path: %q}}
ingress: {listen: %q, drain_grace: 0s}
console: {listen: "127.0.0.1:0"}
enricher: {retry_min: 200ms, retry_max: 1s}
`, mf.base, minifluxUser, db, ingressAddr))
	d := startApart(t, config, ingressAddr, []string{"READER_SECRET=" + minifluxSecret, "READER_PASSWORD=" + minifluxPassword})

	feed.add(3)
	id := mf.subscribe(feed.url)
	feed.add(4)
	mf.call(http.MethodPut, fmt.Sprintf("/v1/feeds/%d/refresh", id), nil, nil)
	eventually(t, time.Minute, "four new entries come by webhook", func() error {
		return want(readEntries(t, db), "webhook", 4)
	})

	d.parts["ingress"].stop()
	feed.add(5)
	mf.call(http.MethodPut, fmt.Sprintf("/v1/feeds/%d/refresh", id), nil, nil)
	d.parts["ingress"].start()
	eventually(t, time.Minute, "what was sent meanwhile is found", func() error {
		entries := readEntries(t, db)
		if len(entries) < 12 {
			return fmt.Errorf("%d entries in the destination, want all 12", len(entries))
		}
		return nil
	})

	all := mf.entries()
	got := readEntries(t, db)
	for _, e := range all {
		g, ok := got[fmt.Sprint(e.ID)]
		switch {
		case !ok:
			t.Errorf("entry %d (%s) is not in the destination", e.ID, e.Title)
		case g.title != e.Title:
			t.Errorf("entry %d is %q in the destination, want %q", e.ID, g.title, e.Title)
		case g.feed == "":
			t.Errorf("entry %d came without its feed", e.ID)
		}
	}
	if len(all) != 12 || len(got) != 12 {
		t.Errorf("%d entries at the source, %d in the destination, want 12 of each", len(all), len(got))
	}

	// A change of a record that the destination has already.
	mf.call(http.MethodPut, "/v1/entries", map[string]any{"entry_ids": []int64{all[0].ID}, "status": "read"}, nil)
	eventually(t, time.Minute, "a change without a webhook is found", func() error {
		if g := readEntries(t, db)[fmt.Sprint(all[0].ID)]; g.status != "read" {
			return fmt.Errorf("status is %q, want read", g.status)
		}
		return nil
	})
	for _, name := range []string{"ingress", "enricher", "sink", "reconciler"} {
		d.parts[name].stop()
	}
}

// want reports whether exactly n records came by an origin.
func want(entries map[string]entry, origin string, n int) error {
	count := 0
	for _, e := range entries {
		if e.origin == origin {
			count++
		}
	}
	if count < n {
		return fmt.Errorf("%d of %d came by %s (%d in all)", count, n, origin, len(entries))
	}
	return nil
}

type entry struct{ title, status, feed, origin string }

// readEntries reads the newest entries with the first origin of each.
func readEntries(t *testing.T, path string) map[string]entry {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`
		SELECT r.record_id, coalesce(r.record ->> 'title', ''), coalesce(r.record ->> 'status', ''),
			coalesce(r.related ->> '$.feed.title', ''),
			(SELECT origin FROM events e WHERE e.record_id = r.record_id AND e.resource = 'entry' ORDER BY sequence LIMIT 1)
		FROM records r WHERE r.source = 'reader' AND r.resource = 'entry' AND NOT r.deleted`)
	if err != nil {
		return nil // the sink has not made its tables yet
	}
	defer rows.Close()
	entries := map[string]entry{}
	for rows.Next() {
		var id string
		var e entry
		if err := rows.Scan(&id, &e.title, &e.status, &e.feed, &e.origin); err != nil {
			t.Fatal(err)
		}
		entries[id] = e
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return entries
}

// feedServer serves an RSS feed that grows.
type feedServer struct {
	url string

	mu    sync.Mutex
	items int
}

func startFeed(t *testing.T) *feedServer {
	t.Helper()
	f := &feedServer{}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL + "/feed.xml"
	return f
}

func (f *feedServer) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items += n
}

func (f *feedServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/rss+xml")
	fmt.Fprint(w, `<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>http://example.com/</link><description>d</description>`)
	for i := range f.items {
		title := html.EscapeString(fmt.Sprintf("Item %d: über & unter \"Anführung\" 🦅", i))
		fmt.Fprintf(w, `<item><title>%s</title><link>http://example.com/%d</link><guid>%d</guid><description>Text %d</description></item>`, title, i, i, i)
	}
	fmt.Fprint(w, `</channel></rss>`)
}

// miniflux is a running Miniflux.
type miniflux struct {
	t    *testing.T
	base string
}

func startMiniflux(t *testing.T, webhook string) *miniflux {
	t.Helper()
	if err := buildMiniflux(); err != nil {
		t.Fatal(err)
	}
	pg := pgtest.Start(t).URL(pgtest.Superuser, pgtest.Database, "")
	addr := freeAddr(t)
	m := &miniflux{t: t, base: "http://" + addr}
	(&process{
		t: t, name: filepath.Join(binDir, "miniflux"), ready: answers(m.base + "/healthcheck"),
		env: []string{
			"DATABASE_URL=" + pg + "?sslmode=disable", "RUN_MIGRATIONS=1",
			"CREATE_ADMIN=1", "ADMIN_USERNAME=" + minifluxUser, "ADMIN_PASSWORD=" + minifluxPassword,
			"LISTEN_ADDR=" + addr, "DISABLE_SCHEDULER_SERVICE=1",
			"FETCHER_ALLOW_PRIVATE_NETWORKS=1", "INTEGRATION_ALLOW_PRIVATE_NETWORKS=1",
		},
	}).start()
	// Its API doesn't set up webhooks; its web page writes these columns.
	psql := exec.Command("psql", "-d", pg, "-v", "ON_ERROR_STOP=1", "-c",
		fmt.Sprintf("UPDATE integrations SET webhook_enabled = 't', webhook_url = '%s', webhook_secret = '%s'", webhook, minifluxSecret))
	if out, err := psql.CombinedOutput(); err != nil || !strings.Contains(string(out), "UPDATE 1") {
		t.Fatalf("set up the webhook: %v\n%s", err, out)
	}
	return m
}

var buildMiniflux = sync.OnceValue(func() error {
	cmd := exec.Command("go", "-C", "../../scripts/tools", "build", "-o", filepath.Join(binDir, "miniflux"), "miniflux.app/v2")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build miniflux: %w\n%s", err, out)
	}
	return nil
})

// call makes one API request.
func (m *miniflux) call(method, path string, body, answer any) {
	m.t.Helper()
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			m.t.Fatal(err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.base+path, payload)
	if err != nil {
		m.t.Fatal(err)
	}
	req.SetBasicAuth(minifluxUser, minifluxPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 300 {
		m.t.Fatalf("%s %s: %s %s", method, path, resp.Status, b)
	}
	if answer != nil {
		if err := json.Unmarshal(b, answer); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *miniflux) subscribe(feed string) int64 {
	m.t.Helper()
	var answer struct {
		FeedID int64 `json:"feed_id"`
	}
	m.call(http.MethodPost, "/v1/feeds", map[string]any{"feed_url": feed, "category_id": 1}, &answer)
	return answer.FeedID
}

type minifluxEntry struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
}

func (m *miniflux) entries() []minifluxEntry {
	m.t.Helper()
	var answer struct {
		Entries []minifluxEntry `json:"entries"`
	}
	m.call(http.MethodGet, "/v1/entries?"+url.Values{"limit": {"1000"}, "order": {"id"}}.Encode(), nil, &answer)
	return answer.Entries
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
