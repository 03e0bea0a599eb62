package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/services/internal/process"
)

// What is measured.
const (
	memory      = "memory"      // in MiB
	goroutines  = "goroutines"  // at this moment
	descriptors = "descriptors" // open files and connections
	disk        = "disk"        // in MiB, of a server's store
	messages    = "messages"    // in a stream
	size        = "size"        // in MiB, of a stream
)

const mebi = 1 << 20

// series is what was measured of one thing: a process or a stream. NaN is not
// among the values: what could not be measured is left out.
type series map[string][]reading // by what was measured

// reading is one value, and when it was.
type reading struct {
	At    seconds `json:"at_seconds"`
	Value float64 `json:"value"`
}

// sampler measures the world again and again.
type sampler struct {
	w      *world
	began  time.Time
	all    map[string]series
	limits []string // of streams that went over theirs
	missed int      // measurements that failed, as they do of what has been killed
}

// run measures every so often until ctx ends.
func (s *sampler) run(ctx context.Context, every time.Duration) {
	for tick := time.NewTicker(every); ; {
		select {
		case <-tick.C:
			s.sample(ctx)
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

func (s *sampler) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, name := range s.w.order {
		if err := s.process(ctx, s.w.members[name]); err != nil {
			s.missed++
		}
	}
	if err := s.streams(ctx); err != nil {
		s.missed++
	}
}

func (s *sampler) add(of, what string, value float64) {
	if s.all[of] == nil {
		s.all[of] = series{}
	}
	s.all[of][what] = append(s.all[of][what], reading{since(s.began), value})
}

func (s *sampler) process(ctx context.Context, m *member) error {
	u, err := m.Usage()
	if err != nil {
		return err
	}
	s.add(m.name, memory, float64(u.Memory)/mebi)
	s.add(m.name, descriptors, float64(u.Descriptors))
	if m.kind == server {
		bytes, err := process.FolderSize(s.w.stores[m.name])
		if err != nil {
			return err
		}
		s.add(m.name, disk, float64(bytes)/mebi)
	}
	n, err := m.goroutines(ctx)
	if err != nil {
		return err
	}
	s.add(m.name, goroutines, n)
	return nil
}

// goroutines asks a process for their number. A NATS server only tells what each
// of them does.
func (m *member) goroutines(ctx context.Context) (n float64, err error) {
	page := "/metrics"
	if m.kind == server {
		page = "/stacksz"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.health+page, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 64*mebi))
	lines.Buffer(nil, mebi)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(value, 64)
		}
		if m.kind == server && strings.HasPrefix(lines.Text(), "goroutine ") {
			n++
		}
	}
	if n == 0 {
		return 0, errors.Join(fmt.Errorf("%s: no goroutines told", m.name), lines.Err())
	}
	return n, lines.Err()
}

// streams measures every stream, those of buckets among them, and looks whether
// it keeps to its limits.
func (s *sampler) streams(ctx context.Context) error {
	list := s.w.js.ListStreams(ctx)
	for info := range list.Info() {
		s.add(info.Config.Name, messages, float64(info.State.Msgs))
		s.add(info.Config.Name, size, float64(info.State.Bytes)/mebi)
		if over := overLimit(info, time.Now()); over != "" {
			s.limits = append(s.limits, fmt.Sprintf("%s at %s s: %s", info.Config.Name, since(s.began), over))
		}
	}
	return list.Err()
}

// late is how long after its time a message may be gone.
const late = 2 * time.Minute

// overLimit says which limit of its own a stream exceeds, or "".
func overLimit(info *jetstream.StreamInfo, now time.Time) string {
	c, state := info.Config, info.State
	age := now.Sub(state.FirstTime)
	switch {
	case c.MaxBytes > 0 && state.Bytes > uint64(c.MaxBytes):
		return fmt.Sprintf("%d bytes, %d are allowed", state.Bytes, c.MaxBytes)
	case c.MaxMsgs > 0 && state.Msgs > uint64(c.MaxMsgs):
		return fmt.Sprintf("%d messages, %d are allowed", state.Msgs, c.MaxMsgs)
	case c.MaxAge > 0 && state.Msgs > 0 && age > c.MaxAge+late:
		return fmt.Sprintf("a message is %s old, %s is allowed", age.Round(time.Second), c.MaxAge)
	}
	return ""
}
