package model_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// running is a service that was made.
type running struct {
	run     func(context.Context) error
	handler http.Handler // of the ingress
}

// part is one service of a world: it can be killed, and is started anew at once
// unless it is to stay down.
type part struct {
	name  string
	url   string
	build func(*nats.Conn) (running, error)
	// buried is called when it has died and is not yet back.
	buried func()
	// alone says that it only comes back once its dead self has ended: both would
	// write to one file.
	alone bool

	mu      sync.Mutex // guards those below
	down    bool       // it is to stay so
	stopped bool       // for good
	fuse    *fuse      // of the one that runs, or nil
	handler http.Handler
	err     error         // why it can't run
	changed chan struct{} // closed and made anew when any of these changes

	ended sync.WaitGroup
}

func (p *part) start() {
	p.changed = make(chan struct{})
	p.ended.Go(p.supervise)
}

// supervise runs the service again and again.
func (p *part) supervise() {
	for {
		p.mu.Lock()
		for p.down && !p.stopped {
			changed := p.changed
			p.mu.Unlock()
			<-changed
			p.mu.Lock()
		}
		stopped := p.stopped
		p.mu.Unlock()
		if stopped {
			return
		}
		err := p.live()
		p.set(func() { p.fuse, p.handler = nil, nil })
		if err != nil {
			p.set(func() { p.err = fmt.Errorf("%s: %w", p.name, err) })
			return
		}
		p.buried()
	}
}

// stopWithin bounds how long a service may take to end. The machine may be busy.
const stopWithin = 2 * time.Minute

// live is one life of the service.
func (p *part) live() error {
	f := &fuse{blown: make(chan struct{})}
	nc, err := nats.Connect(p.url, nats.SetCustomDialer(dialer{f}), nats.Timeout(time.Minute),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(reconnectWait),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return err
	}
	defer nc.Close()
	s, err := p.build(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	p.set(func() { p.fuse, p.handler = f, s.handler })
	p.mu.Lock()
	if p.stopped || p.down { // meanwhile
		f.blow()
	}
	p.mu.Unlock()
	var early error
	select {
	case <-f.blown:
	case early = <-ended:
		ended <- early
		if !f.isBlown() {
			cancel()
			return fmt.Errorf("ended by itself: %w", early)
		}
	}
	nc.Close() // nothing that it says now is heard
	cancel()
	if !p.alone {
		p.ended.Go(func() { p.mourn(ended) })
		return nil
	}
	p.mourn(ended)
	return nil
}

// mourn waits until a dead service has noticed it, whatever it says: it was cut
// off.
func (p *part) mourn(ended <-chan error) {
	select {
	case <-ended:
	case <-time.After(stopWithin):
		p.set(func() { p.err = fmt.Errorf("%s: not ended %s after its context", p.name, stopWithin) })
	}
}

// set changes what others wait for.
func (p *part) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// up waits until the service runs, unless it is to stay down, and returns the end
// of this life of it.
func (p *part) up(ctx context.Context) (died <-chan struct{}, handler http.Handler, err error) {
	for {
		p.mu.Lock()
		f, h, down, err, changed := p.fuse, p.handler, p.down, p.err, p.changed
		p.mu.Unlock()
		switch {
		case err != nil:
			return nil, nil, err
		case down:
			return nil, nil, nil
		case f != nil && !f.isBlown():
			return f.blown, h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%s is not up: %w", p.name, ctx.Err())
		}
	}
}

func (p *part) now() *fuse {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fuse
}

// isDown reports whether it is to stay down.
func (p *part) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// door is where webhooks go, or nil while it doesn't run.
func (p *part) door() http.Handler {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handler
}

// crash kills the service at a message to come.
func (p *part) crash(prefix string, after int) {
	if f := p.now(); f != nil {
		f.arm(prefix, after)
	}
}

// kill ends the service, for good or until it is raised.
func (p *part) kill(forGood bool) {
	p.set(func() { p.down, p.stopped = true, p.stopped || forGood })
	if f := p.now(); f != nil {
		f.blow()
	}
}

// raise has it up again, and in no danger.
func (p *part) raise() {
	p.set(func() { p.down = false })
	if f := p.now(); f != nil {
		f.disarm()
	}
}
