package e2e_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// receiver is a destination that takes nothing until it is mended.
type receiver struct {
	mended atomic.Bool
	mu     sync.Mutex
	got    map[string]int // by event id
}

func (d *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !d.mended.Load() {
		status := http.StatusUnprocessableEntity
		if bytes.Contains(body, []byte("order.paid")) {
			status = http.StatusBadRequest
		}
		http.Error(w, "column 17 is missing <script>alert(1)</script>", status)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got[r.Header.Get("Webhook-Id")]++
}

func (d *receiver) taken() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.got)
}

const consoleConfig = `
sources:
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp}
    secrets: [env:SHOP_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
destinations:
  crm: {http: {url: %q, secrets: [env:CRM_SECRET], allow_private: true}}
  archive: {sqlite: {path: %q}}
ingress: {listen: %q, drain_grace: 0s}
console: {listen: %q}
sink: {max_attempts: 2, retry_min: 20ms, retry_max: 50ms}
telemetry: {listen: %q}
`

const shopSecret = "the shop's webhook secret of a test"

// deliver sends one signed webhook.
func deliver(url, id, body string) error {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(shopSecret))
	mac.Write([]byte(at + "." + body))
	req.Header.Set("X-Signature", hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("X-Timestamp", at)
	req.Header.Set("X-Delivery", id)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s was answered %s", id, resp.Status)
	}
	return nil
}

// brokenShop is a pipeline in a process of its own, one of whose destinations
// takes nothing: 500 dead letters in two groups. Its operators walk out of that by
// the browser, the command line and the API.
type brokenShop struct {
	crm     *receiver
	ingress string // addresses
	console string
}

// brokenEvents is how many it was sent.
const brokenEvents = 500

func startBrokenShop(t *testing.T) *brokenShop {
	t.Helper()
	crm := &receiver{got: map[string]int{}}
	srv := httptest.NewServer(crm)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file, in, console, health := filepath.Join(dir, "tercel.yaml"), freeAddr(t), freeAddr(t), freeAddr(t)
	write(t, file, fmt.Sprintf(consoleConfig, srv.URL, filepath.Join(dir, "archive.db"), in, console, health))
	startTogether(t, file, in, health, []string{"SHOP_SECRET=" + shopSecret, "CRM_SECRET=whsec_" + "dGhlIGNybSdzIHNpZ25pbmcgc2VjcmV0"})
	var sending errgroup.Group
	sending.SetLimit(8)
	for i := range brokenEvents {
		kind := []string{"order.created", "order.paid"}[i%2]
		sending.Go(func() error {
			return deliver("http://"+in+"/v1/shop", fmt.Sprintf("evt-%03d", i), fmt.Sprintf(`{"kind":%q,"n":%d,"note":"<b onmouseover=alert(1)>\u202e \u0000"}`, kind, i))
		})
	}
	if err := sending.Wait(); err != nil {
		t.Fatal(err)
	}
	return &brokenShop{crm, "http://" + in, "http://" + console}
}

// hasAll waits until the destination has every event.
func (s *brokenShop) hasAll(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "the destination has all of them", func() error {
		if n := s.crm.taken(); n != brokenEvents {
			return fmt.Errorf("it has %d of %d", n, brokenEvents)
		}
		return nil
	})
}

// A destination was down. An operator looks what happened, mends it, tries one,
// sends the others with their progress in sight, and sees the groups close. All
// of it in a browser.
func TestAnOperatorRepairsADestinationInTheBrowser(t *testing.T) {
	t.Parallel()
	shop := startBrokenShop(t)
	b := startBrowser(t, shop.console)
	b.open("/")
	b.until("main", "shop")
	b.look("overview")
	b.open("/dead-letters")
	b.until("tbody tr:nth-child(1)", "250")
	b.until("tbody tr:nth-child(2)", "250")
	if n := b.count("tbody tr"); n != 2 {
		t.Errorf("%d groups, want 2:\n%s", n, b.text("tbody"))
	}
	b.look("dead-letters")

	// What happened to one of them?
	b.open("/events")
	b.fill(`form[action="/events/one"] input[name=id]`, "evt-000")
	b.press("What happened to it?")
	b.until("main", "dead letter")
	b.until(".timeline", "archive")
	b.look("event")
	b.press("TERCEL_DLQ")
	b.until("h1", "Dead letter")
	b.until("main", "<script>alert(1)</script>") // as text
	b.look("letter")

	// Nothing is mended: the trial of one comes back, and the rest stays.
	b.open("/dead-letters")
	b.press("status 400")
	b.press("Plan a replay")
	b.until("main", "250")
	b.until("main", "crm")
	if text := b.text("main"); strings.Contains(text, "archive") {
		t.Errorf("the plan reaches the destination that has it already:\n%s", text)
	}
	b.look("plan")
	b.fill("input[name=reason]", "is it mended?")
	b.press("Try with one")
	b.until("main", "Done.")
	b.until(".facts", "Dead again\n1")

	shop.crm.mended.Store(true)
	for _, cause := range []string{"status 400", "status 422"} {
		b.open("/dead-letters")
		b.press(cause)
		b.press("Plan a replay")
		b.fill("input[name=reason]", "the column is there again")
		b.press("Try with one")
		b.until("main", "Done.")
		b.until(".facts", "Delivered\n1")
		b.press("Back to the letters")
		b.press("Plan a replay")
		b.fill("input[name=reason]", "one came through")
		b.fill("input[name=rate]", "200")
		b.press("Replay 249")
		b.until("progress", "")
		b.look("replay-" + cause[len("status "):])
		b.until("main", "Done.")
		b.until(".facts", "Delivered\n249")
	}
	shop.hasAll(t)
	b.open("/dead-letters")
	b.until("tbody tr:nth-child(1)", "watched") // closed once it was quiet for a while
	b.until("tbody tr:nth-child(2)", "watched")
	b.open("/audit")
	b.until("tbody", "the column is there again")
	b.look("audit")
	for _, path := range []string{"/events", "/events/tail", "/dead-letters/all", "/reconciliation", "/sources", "/sources/refusals"} {
		b.open(path)
		b.look(strings.ReplaceAll(path[1:], "/", "-"))
	}
	b.open("/events/tail?stream=raw")
	b.until("#tail-state", "Waiting")
	if err := deliver(shop.ingress+"/v1/shop", "evt-live", `{"kind":"order.live"}`); err != nil {
		t.Fatal(err)
	}
	b.until("#tail", "order.live")

	// An edit is shown before it is kept.
	b.open("/dead-letters/1")
	b.fill("textarea[name=patch]", `[{"op":"replace","path":"/trigger/n","value":4711}]`)
	b.press("Show the difference")
	b.until(".diff", "4711")
	b.fill("textarea[name=patch]", `[{"op":"remove","path":"/nowhere"}]`)
	b.press("Show the difference")
	b.until("[role=alert]", "patch can't be applied")
}

// count is how many elements there are.
func (b *browser) count(selector string) int {
	b.Helper()
	n, err := evaluate[int](b, `document.querySelectorAll(`+quoted(selector)+`).length`)
	b.check(err)
	return n
}
