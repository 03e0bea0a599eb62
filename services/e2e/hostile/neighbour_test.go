package hostile_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

const neighbourSecret = "the healthy neighbour's secret"

// neighbourSource is the source whose webhooks nothing may keep from being served.
const neighbourSource = `
  shop:
    verify: {scheme: hmac-sha256, header: X-Signature, signed: "{timestamp}.{body}", timestamp: X-Timestamp, tolerance: 1h}
    secrets: [env:NEIGHBOUR_SECRET]
    event: {id: header.X-Delivery, type: body.kind}
    api: {base: "@API@/honest", allow_private: true, timeout: 30s}
    resources: {order: {triggers: [order.*], id: body.order, get: "/things/{id}", version: record.version}}
`

// pace is the time between two webhooks of the neighbour. They are sent when they
// are due, whether those before were answered or not: a wait that is spared the next
// one is no latency seen.
const pace = 20 * time.Millisecond

// most is how many webhooks the neighbour sends at once: fewer than a source may have
// in hand. One that is due and waits for its turn has its time counted.
const most = 24

// neighbour sends genuine webhooks at an even pace, each over a connection of its
// own, and notes how long each answer takes since it was due.
type neighbour struct {
	w      *world
	source provider.Source
	client *http.Client
	places chan struct{} // as many as it sends at once
	sent   int           // so far; for one goroutine

	mu    sync.Mutex // guards what follows
	took  []time.Duration
	wrong []string // what wasn't answered with 2xx
}

func newNeighbour(w *world) *neighbour {
	return &neighbour{w: w, source: w.file.Sources["shop"], places: make(chan struct{}, most), client: &http.Client{
		Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// while sends until what returns, at least for atLeast, and returns the latencies.
func (n *neighbour) while(atLeast time.Duration, what func()) latencies {
	done := make(chan struct{})
	go func() {
		defer close(done)
		what()
	}()
	enough := time.After(atLeast)
	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	var sending sync.WaitGroup
	for over := false; !over; {
		due := <-ticks.C
		n.sent++
		id := fmt.Sprintf("shop-%d", n.sent)
		sending.Go(func() { n.send(id, due) })
		select {
		case <-enough:
			enough = nil
		default:
		}
		if enough == nil {
			select {
			case <-done:
				over = true
			default:
			}
		}
	}
	sending.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.took)
	took := n.took
	n.took = nil
	return took
}

func (n *neighbour) send(id string, due time.Time) {
	n.places <- struct{}{}
	defer func() { <-n.places }()
	err := n.deliver(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.took = append(n.took, time.Since(due))
	if err != nil {
		n.wrong = append(n.wrong, id+": "+err.Error())
	}
}

func (n *neighbour) deliver(id string) error {
	body := fmt.Sprintf(`{"kind":"order.paid","order":%q}`, id)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+n.w.ingress+"/v1/shop", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = n.source.Verifier().SignRequest(n.source.Keys()[0], signature.Request{Body: []byte(body)}, id, time.Now())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Delivery", id)
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// latencies are in order.
type latencies []time.Duration

func (l latencies) at(share float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(int(share*float64(len(l))), len(l)-1)]
}

func (l latencies) String() string {
	return fmt.Sprintf("%d webhooks, p50 %s, p99 %s", len(l), l.at(.5).Round(10*time.Microsecond), l.at(.99).Round(10*time.Microsecond))
}
