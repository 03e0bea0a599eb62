package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/deadletter"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/proof"
	"github.com/tercelhq/tercel/services/internal/simulator"
)

type demoCmd struct {
	Events    int           `help:"Changes that the provider makes." default:"2000"`
	Drop      float64       `help:"Share of changes whose webhook is never sent." default:"0.1"`
	Duplicate float64       `help:"Share of webhooks sent twice." default:"0.05"`
	Reorder   float64       `help:"Share of webhooks sent behind later ones." default:"0.05"`
	Forge     float64       `help:"Forged webhooks sent beside, as a share of the changes." default:"0.02"`
	Poison    float64       `help:"Share of records whose fetch fails until their dead letters are replayed." default:"0.005"`
	Rate      float64       `help:"Changes a second. 0 is as many as the pipeline takes." default:"0"`
	Seed      uint64        `help:"Decides what happens to which change." default:"1"`
	Data      string        `help:"Folder to keep everything in, made for it. Defaults to a temporary one that is removed at the end." placeholder:"DIR"`
	Timeout   time.Duration `help:"Bound of the whole run." default:"2m"`
	JSON      bool          `name:"json" help:"Print the result as JSON."`
}

// Help is shown by --help.
func (demoCmd) Help() string {
	return `Runs every service with an embedded JetStream and a SQLite destination against a simulated
provider that drops, repeats, delays and forges webhooks and has records that can't be fetched.
Then it heals those records, replays the dead letters, and compares the destination record by
record with the provider's own book. Exits 1 when anything was lost or a forgery got through.

Example:
  tercel demo --events 2000 --drop 0.2 --duplicate 0.1 --json`
}

// Validate reports every fault of the flags, before anything is started.
func (c demoCmd) Validate() error {
	if c.Events < 1 { // the simulator would take its default
		return fmt.Errorf("events: %d, want at least 1", c.Events)
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("timeout: %s, want more than 0s", c.Timeout)
	}
	return c.provider(config.NewSecret("checked"), config.NewSecret("checked")).Validate()
}

// provider is what the flags ask of the simulated provider. A few records are
// deleted and a few API requests answered 503, as everywhere.
func (c demoCmd) provider(secret, token config.Secret) simulator.Config {
	return simulator.Config{
		Seed: c.Seed, Events: c.Events, Drop: c.Drop, Duplicate: c.Duplicate, Reorder: c.Reorder, Forge: c.Forge,
		Poison: c.Poison, Delete: 0.02, Unavailable: 0.002, Rate: c.Rate, Secret: secret, Token: token,
	}
}

// Run runs the command.
func (c demoCmd) Run(a *app) error {
	d, err := newDemo(c)
	if err != nil {
		return err
	}
	show := startProgress(a.err, d)
	r, err := d.run(a.ctx)
	show.stop()
	failed := err != nil || len(r.Failures) > 0
	if err == nil {
		err = c.print(a, r)
	}
	keep := failed && a.ctx.Err() == nil // who interrupts it is not curious
	if c.Data != "" || keep {
		fmt.Fprintf(a.err, "pipeline file, streams, database and log are kept: %s\n", d.folder.config())
	}
	if err := errors.Join(err, d.close(keep)); err != nil {
		return err
	}
	if failed {
		return exitCode{boot.Failed, strings.Join(r.Failures, "\n")}
	}
	return nil
}

func (c demoCmd) print(a *app, r demoResult) error {
	if c.JSON {
		return printJSON(a.out, r)
	}
	return r.print(a.out)
}

// demo is one run of the whole pipeline against a simulated provider.
type demo struct {
	cmd      demoCmd
	folder   demoFolder
	file     *pipeline.File
	provider *simulator.Provider
	listener net.Listener
	dest     *proof.Destination

	dead, replayed int

	mu    sync.Mutex // guards phase, which the display reads
	phase string
}

func newDemo(c demoCmd) (*demo, error) {
	folder, err := newDemoFolder(c.Data)
	if err != nil {
		return nil, err
	}
	d := &demo{cmd: c, folder: folder, phase: "starting"}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, d.close(false))
	}
	return d, nil
}

func (d *demo) prepare() (err error) {
	// The address is part of the pipeline file, so it comes first.
	if d.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("listen for the simulated provider: %w", err)
	}
	if d.file, err = d.folder.write("http://" + d.listener.Addr().String()); err != nil {
		return err
	}
	source := d.file.Sources[demoSource]
	if d.provider, err = simulator.New(d.cmd.provider(source.Secrets[0], source.API.Token)); err != nil {
		return err
	}
	d.dest, err = proof.Open(d.folder.database(), demoSource, demoResource)
	return err
}

// close ends what newDemo began. A temporary folder is removed unless it is
// kept to look into.
func (d *demo) close(keep bool) error {
	var errs []error
	if d.listener != nil {
		_ = d.listener.Close() // mostly closed already
	}
	if d.dest != nil {
		errs = append(errs, d.dest.Close())
	}
	if d.cmd.Data == "" && !keep {
		errs = append(errs, os.RemoveAll(d.folder.dir))
	}
	return errors.Join(errs...)
}

// run runs pipeline and provider, and returns what came of it. An error means
// that nothing could be counted.
func (d *demo) run(ctx context.Context) (demoResult, error) {
	started := time.Now()
	log, err := os.OpenFile(d.folder.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return demoResult{}, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }() // nothing depends on it

	bounded, cancel := context.WithTimeout(ctx, d.cmd.Timeout)
	defer cancel()
	bounded, fail := context.WithCancelCause(bounded)
	// The pipeline outlives the time limit, so that it ends as it always does.
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan running, 1)
	var parts sync.WaitGroup
	var pipelineErr, providerErr error // read when parts are done
	parts.Go(func() {
		pipelineErr = runAll(serving, d.file, allOptions{
			DataDir: d.folder.dir, Log: boot.NewLogger(log, d.file.Telemetry.LogLevel),
			Ready: func(r running) { ready <- r },
		})
		fail(errors.New("the pipeline ended"))
	})
	parts.Go(func() {
		providerErr = d.provider.Serve(serving, d.listener)
		fail(errors.New("the simulated provider ended"))
	})
	phaseErr := d.phases(bounded, ready)
	d.setPhase("stopping")
	stop()
	parts.Wait()
	if ctx.Err() != nil {
		return demoResult{}, errors.New("interrupted")
	}
	r, err := d.count(ctx, errors.Join(phaseErr, pipelineErr, providerErr))
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	return r, err
}

// phases drives the story: webhooks, repair, dead letters, replay. Each phase
// ends when the far end shows it, or with an error that says what it waited for.
func (d *demo) phases(ctx context.Context, ready <-chan running) error {
	var pipe running
	select {
	case pipe = <-ready:
	case <-ctx.Done():
		return d.gaveUp(ctx, nil)
	}
	d.setPhase("webhooks")
	if err := d.provider.Run(ctx, pipe.IngressURL+"/v1/"+demoSource); err != nil {
		return d.gaveUp(ctx, err)
	}
	js, err := jetstream.New(pipe.Conn)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	// What was dropped is found by reconciliation only.
	d.setPhase("reconciliation")
	if err := d.until(ctx, func() (bool, error) { return d.complete(ctx, false) }); err != nil {
		return err
	}
	// A record that can't be fetched leaves one for each of its webhooks.
	d.setPhase("dead letters")
	if err := d.until(ctx, func() (bool, error) { return d.countDead(ctx, js) }); err != nil {
		return err
	}
	d.setPhase("replay")
	d.provider.Heal()
	if err := d.replay(ctx, js); err != nil {
		return err
	}
	return d.until(ctx, func() (bool, error) { return d.complete(ctx, true) })
}

func (d *demo) setPhase(p string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = p
}

func (d *demo) currentPhase() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.phase
}

// pollEvery is the least time between two looks at the far end. They cost the
// pipeline time, so a look that took long is followed by a longer wait.
const pollEvery = 100 * time.Millisecond

// until waits until done says so. An error of done is no end: tables may not be
// there yet, a server may be busy. The last one is told when time is up.
func (d *demo) until(ctx context.Context, done func() (bool, error)) error {
	for {
		began := time.Now()
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		select {
		case <-time.After(max(pollEvery, 4*time.Since(began))):
		case <-ctx.Done():
			return d.gaveUp(ctx, err)
		}
	}
}

// gaveUp is why a phase ended early: the pipeline's end, or the time limit.
func (d *demo) gaveUp(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", d.currentPhase(), cause)
	}
	err := fmt.Errorf("%s: not done within %s", d.currentPhase(), d.cmd.Timeout)
	if last != nil && !errors.Is(last, context.DeadlineExceeded) {
		err = fmt.Errorf("%w; last: %w", err, last)
	}
	return err
}

// complete reports whether the destination has everything; without healed,
// everything but what the source refuses to show.
func (d *demo) complete(ctx context.Context, healed bool) (bool, error) {
	far, err := d.dest.Read(ctx)
	if err != nil {
		return false, err
	}
	v := proof.Compare(d.provider.Book(), d.provider.Newest(), far, healed)
	return len(v.Lost) == 0 && len(v.Undelivered) == 0, nil
}

// countDead reports whether every webhook of a poisoned record that was taken
// has its dead letter.
func (d *demo) countDead(ctx context.Context, js jetstream.JetStream) (bool, error) {
	want := map[string]bool{}
	for _, id := range proof.Poisoned(d.provider.Book()) {
		want[id] = true
	}
	letters := 0
	for l, err := range deadletter.List(ctx, js, deadletter.Filter{}) {
		if err != nil {
			return false, err
		}
		letters++
		delete(want, l.Event.DeliveryID)
	}
	d.dead = letters
	return len(want) == 0, nil
}

// replay sends every open dead letter again, as an operator would.
func (d *demo) replay(ctx context.Context, js jetstream.JetStream) error {
	var open []uint64
	for l, err := range deadletter.List(ctx, js, deadletter.Filter{States: []deadletter.State{deadletter.StateOpen}}) {
		if err != nil {
			return err
		}
		open = append(open, l.Sequence)
	}
	for _, seq := range open {
		if _, err := deadletter.Replay(ctx, js, seq, deadletter.ReplayOptions{}); err != nil {
			return err
		}
		d.replayed++
	}
	return nil
}

// count compares the destination, now at rest, with the provider's book.
func (d *demo) count(ctx context.Context, phaseErr error) (demoResult, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	far, err := d.dest.Read(ctx)
	if err != nil {
		return demoResult{}, errors.Join(phaseErr, err)
	}
	book := d.provider.Book()
	r := newResult(book, proof.Compare(book, d.provider.Newest(), far, true), far)
	r.DeadLettered, r.Replayed, r.Seed = d.dead, d.replayed, d.cmd.Seed
	if phaseErr != nil {
		r.Failures = slices.Insert(r.Failures, 0, phaseErr.Error())
	}
	return r, nil
}
