package sink_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/freeport"
	"github.com/tercelhq/tercel/services/sink/internal/delivery"
)

var httpCannot = map[string]string{
	duplicatesChangeNothing: "a repeat is sent again, and receivers tell it by its webhook-id",
	recordsAreThere:         "receivers fold events into records",
}

const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// hooks is a receiver of webhooks that checks them with the library of the
// Standard Webhooks project.
type hooks struct {
	t    *testing.T
	addr string
	lib  *standardwebhooks.Webhook

	mu      sync.Mutex // guards what follows
	server  *http.Server
	got     []row
	refused string        // an event's id
	full    bool          // answers 507
	gone    bool          // answers 410
	asked   int           // how often it did
	asleep  chan struct{} // closed to wake it up, or nil
}

func httpPlace(t *testing.T) *place {
	t.Helper()
	_, p := hookPlace(t)
	return p
}

// hookPlace is a place with what receives there.
func hookPlace(t *testing.T) (*hooks, *place) {
	t.Helper()
	lib, err := standardwebhooks.NewWebhook(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Find() // which it must get again after it was away
	if err != nil {
		t.Fatal(err)
	}
	h := &hooks{t: t, addr: fmt.Sprint("127.0.0.1:", port), lib: lib}
	h.listen()
	t.Cleanup(h.close)
	return h, &place{
		yaml:    fmt.Sprintf("http: {url: http://%s/hooks, secrets: [env:HOOK_SECRET], timeout: 5s, allow_private: true}", h.addr),
		env:     map[string]string{"HOOK_SECRET": hookSecret},
		rows:    h.rows,
		breakIt: func(*testing.T) func() { h.close(); return h.listen },
		hang:    h.hang,
		fill: func(*testing.T) func() {
			h.set(func() { h.full = true })
			return func() { h.set(func() { h.full = false }) }
		},
		refuse: func(_ *testing.T, id string) { h.set(func() { h.refused = id }) },
	}
}

func (h *hooks) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *hooks) listen() {
	l, err := net.Listen("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	h.set(func() { h.server = server })
	go func() { _ = server.Serve(l) }() // ends with close
}

func (h *hooks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.server.Close()
}

func (h *hooks) hang(*testing.T) (wake func()) {
	asleep := make(chan struct{})
	h.set(func() { h.asleep = asleep })
	return func() {
		close(asleep)
		h.set(func() { h.asleep = nil })
	}
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	asleep := h.asleep
	h.mu.Unlock()
	if asleep != nil {
		select {
		case <-asleep:
		case <-r.Context().Done():
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its sender was killed
	}
	if err := h.lib.Verify(body, r.Header); err != nil {
		h.t.Errorf("a webhook is not accepted: %v", err)
	}
	got, err := hookRow(r.Header, body)
	if err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.gone:
		h.asked++
		w.WriteHeader(http.StatusGone)
	case h.full:
		w.WriteHeader(http.StatusInsufficientStorage)
	case h.refused != "" && got.EventID == h.refused:
		http.Error(w, "not this one", http.StatusUnprocessableEntity)
	default:
		h.got = append(h.got, got)
	}
}

// hookRow reads a webhook as a receiver would.
func hookRow(header http.Header, body []byte) (row, error) {
	attributes := nats.Header{}
	for name, values := range header {
		attributes[strings.ToLower(name)] = values
	}
	e, err := event.FromHeader(attributes)
	if err != nil {
		return row{}, err
	}
	r := row{
		EventID: e.ID, Source: e.Source, Account: e.Account, Type: e.Type, Resource: e.Resource, RecordID: e.RecordID,
		Version: string(e.Version), Origin: string(e.Origin), Deleted: e.Deleted, EventTime: delivery.Time(e.Time),
		ReceivedAt: delivery.Time(e.ReceivedAt), ObservedAt: delivery.Time(e.ObservedAt), WrittenAt: delivery.Time(time.Now()),
	}
	if got, want := header.Get("Webhook-Id"), e.MsgID(); got != want {
		return row{}, fmt.Errorf("webhook-id %q, want %q", got, want)
	}
	if r.Sequence, err = strconv.ParseUint(header.Get("Tercel-Sequence"), 10, 64); err != nil {
		return row{}, err
	}
	return r, json.Unmarshal(body, &r)
}

func (h *hooks) rows(*testing.T) []row {
	h.mu.Lock()
	defer h.mu.Unlock()
	rows := slices.Clone(h.got)
	slices.SortStableFunc(rows, sequence)
	return rows
}
