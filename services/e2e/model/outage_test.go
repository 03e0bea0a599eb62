package model_test

import (
	"context"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
)

// reconnectWait is the time between two attempts to reach a server that is away.
const reconnectWait = 20 * time.Millisecond

// outage stops the server and starts it again. Meanwhile a record changes, whose
// webhook must not be taken: it could not be stored (promise 1).
func (p *play) outage(id string) error {
	p.outages.Add(1)
	p.reached.add(outages, 1)
	p.away.Lock()
	defer p.away.Unlock()
	p.server.Stop()
	r := p.book.put(id, p.clock.now().Truncate(p.granule))
	if err := p.announce(happened{Order: id, At: r.Updated}, held); err != nil {
		return err
	}
	status := p.offer(p.ctx, p.account, p.held[len(p.held)-1])
	p.server.Resume()
	if status/100 == 2 {
		return fmt.Errorf("a webhook is answered %d while NATS is away", status)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	var again pauses
	for {
		// What is asked while the server starts may get no answer.
		try, end := context.WithTimeout(ctx, time.Second)
		_, err := p.js.Stream(try, topology.StreamRaw)
		end()
		if err == nil {
			return nil
		}
		if again.wait(ctx) != nil {
			return fmt.Errorf("the server is not back: %w", err)
		}
	}
}

// asking asks the server something while a run is under way, within which there
// may be an outage: what is asked when it begins would never be answered.
func (p *play) asking(do func() error) error {
	p.away.RLock()
	defer p.away.RUnlock()
	return do()
}
