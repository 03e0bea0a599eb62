package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/cursor"
	"github.com/tercelhq/tercel/pkg/topology"
)

type statusCmd struct {
	pipelineFlags
	JSON bool `name:"json" help:"Print the status as one JSON object."`
}

// Help is shown by --help.
func (statusCmd) Help() string {
	return `Asks the NATS server, so it works whichever process runs the services.

Example:
  tercel status --nats nats://nats:4222`
}

// status is the pipeline as its server sees it.
type status struct {
	Server      string           `json:"server"`
	Streams     []streamStatus   `json:"streams"`
	Stages      []stageStatus    `json:"stages"`
	Reconciled  []resourceStatus `json:"reconciled"`
	DeadLetters uint64           `json:"dead_letters"`
	Accounts    []accountsStatus `json:"accounts"`
}

// accountsStatus is the accounts that a bucket has for a source. Those in a file
// or folder are only known where that is, to "tercel check".
type accountsStatus struct {
	Source   string `json:"source"`
	Bucket   string `json:"bucket"`
	Accounts int    `json:"accounts"`
}

type streamStatus struct {
	Name     string    `json:"name"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Last     time.Time `json:"last,omitzero"`
	Replicas int       `json:"replicas"`
}

// stageStatus is one durable consumer. Behind counts sequences from the last
// message that it should take back to the first that is not acknowledged: it
// shows a consumer that stands still although nothing is pending.
type stageStatus struct {
	Stage       string    `json:"stage"`
	Name        string    `json:"name"`
	Pending     uint64    `json:"pending"`
	InHand      int       `json:"in_hand"`
	Redelivered int       `json:"redelivered"`
	Behind      uint64    `json:"behind"`
	Workers     int       `json:"waiting_pulls"`
	LastAck     time.Time `json:"last_ack,omitzero"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
}

type resourceStatus struct {
	Source     string    `json:"source"`
	Account    string    `json:"account"`
	Resource   string    `json:"resource"`
	Through    time.Time `json:"complete_through,omitzero"`
	LastRun    time.Time `json:"last_run,omitzero"`
	LastOK     time.Time `json:"last_ok,omitzero"`
	Unfinished bool      `json:"unfinished_window"`
}

// Run runs the command.
func (c statusCmd) Run(a *app) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	s, err := readStatus(ctx, nc)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.out, s)
	}
	return printStatus(a.out, s)
}

func readStatus(ctx context.Context, nc *connection) (status, error) {
	s := status{Server: withoutToken(nc.ConnectedUrlRedacted())}
	for _, name := range []string{
		topology.StreamRaw, topology.StreamEnriched, topology.StreamDLQ, topology.StreamReports, topology.StreamAdvisories, topology.StreamSeen,
		topology.StreamIntake,
	} {
		stream, err := nc.js.Stream(ctx, name)
		if err != nil {
			return status{}, fmt.Errorf("stream %s: %w; is this the server of a Tercel pipeline?", name, err)
		}
		info := stream.CachedInfo()
		s.Streams = append(s.Streams, streamStatus{
			Name: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, Last: info.State.LastTime, Replicas: info.Config.Replicas,
		})
		if name == topology.StreamDLQ {
			s.DeadLetters = info.State.Msgs
		}
		list := stream.ListConsumers(ctx)
		for c := range list.Info() {
			st, ok, err := stageOf(ctx, stream, c)
			if err != nil {
				return status{}, err
			}
			if ok {
				s.Stages = append(s.Stages, st)
			}
		}
		if err := list.Err(); err != nil {
			return status{}, fmt.Errorf("consumers of %s: %w", name, err)
		}
	}
	store, err := cursor.Open(ctx, nc.js)
	if err != nil {
		return status{}, err
	}
	if s.Reconciled, err = readCursors(ctx, store); err != nil {
		return status{}, err
	}
	s.Accounts, err = readAccounts(ctx, nc.js)
	return s, err
}

// readAccounts counts the accounts in buckets.
func readAccounts(ctx context.Context, js jetstream.JetStream) ([]accountsStatus, error) {
	buckets, err := topology.AccountsBuckets(ctx, js)
	if err != nil {
		return nil, err
	}
	all := []accountsStatus{}
	for _, bucket := range buckets {
		kv, err := js.KeyValue(ctx, bucket)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", bucket, err)
		}
		keys, err := kv.ListKeys(ctx)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", bucket, err)
		}
		counts := map[string]int{}
		for key := range keys.Keys() {
			source, _, _ := strings.Cut(key, ".")
			counts[source]++
		}
		for _, source := range slices.Sorted(maps.Keys(counts)) {
			all = append(all, accountsStatus{Source: source, Bucket: bucket, Accounts: counts[source]})
		}
	}
	return all, nil
}

func readCursors(ctx context.Context, store *cursor.Store) ([]resourceStatus, error) {
	entries, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	all := []resourceStatus{}
	for _, e := range entries {
		all = append(all, resourceStatus{
			Source: e.Key.Source, Account: e.Key.Account, Resource: e.Key.Resource, Through: e.Through,
			LastRun: e.StartedAt, LastOK: e.OKAt, Unfinished: e.Window != nil,
		})
	}
	return all, nil
}

func stageOf(ctx context.Context, stream jetstream.Stream, c *jetstream.ConsumerInfo) (stageStatus, bool, error) {
	stage, name, ok := topology.Stage(c.Name)
	if !ok {
		return stageStatus{}, false, nil
	}
	last, err := topology.LastFor(ctx, stream, c.Config)
	if err != nil {
		return stageStatus{}, false, fmt.Errorf("consumer %s: %w", c.Name, err)
	}
	st := stageStatus{
		Stage: stage, Name: name, Pending: c.NumPending, InHand: c.NumAckPending, Redelivered: c.NumRedelivered,
		Behind: last - min(last, c.AckFloor.Stream), Workers: c.NumWaiting,
	}
	if c.AckFloor.Last != nil {
		st.LastAck = *c.AckFloor.Last
	}
	if c.Paused {
		st.PausedUntil = time.Now().Add(c.PauseRemaining)
	}
	return st, true, nil
}

func printStatus(w io.Writer, s status) error {
	t := newTable(w, "stream", "messages", "bytes", "last", "replicas")
	for _, x := range s.Streams {
		t.row(x.Name, x.Messages, x.Bytes, stamp(x.Last), x.Replicas)
	}
	fmt.Fprintln(t.w)
	fmt.Fprintln(t.w, "STAGE\tPENDING\tIN HAND\tREDELIVERED\tBEHIND\tLAST ACK")
	for _, x := range s.Stages {
		last := ago(x.LastAck)
		if !x.PausedUntil.IsZero() {
			last = "paused " + untilWhen(time.Until(x.PausedUntil))
		}
		t.row(x.Stage+" "+x.Name, x.Pending, x.InHand, x.Redelivered, x.Behind, last)
	}
	if len(s.Accounts) > 0 {
		fmt.Fprintln(t.w)
		fmt.Fprintln(t.w, "SOURCE\tACCOUNTS\tBUCKET")
		for _, x := range s.Accounts {
			t.row(x.Source, x.Accounts, x.Bucket)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return printResources(w, s.Reconciled)
}

// untilWhen tells how long a pause has yet to last.
func untilWhen(left time.Duration) string {
	if left > topology.UntilResumed/2 {
		return "until it is resumed"
	}
	return "until " + stamp(time.Now().Add(left))
}

func printResources(w io.Writer, all []resourceStatus) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "nothing has been reconciled")
		return err
	}
	t := newTable(w, "resource", "account", "complete through", "last run", "last finished")
	for _, r := range all {
		t.row(r.Source+" "+r.Resource, r.Account, stamp(r.Through), ago(r.LastRun), ago(r.LastOK))
	}
	return t.flush()
}
